"""Finds the rows that a table refuses, so that all others of the transaction are written.

Rows that were refused together are written again in halves, each within a savepoint, until those
that are refused stand alone. They go in the order of their keys as before, so that transactions
that share rows still wait for each other and never deadlock.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from uuid import uuid4

from sqlalchemy import Connection

from sinfer.errors import SinkUnavailableError
from sinfer.sinks.sql.errors import blame, error_text
from sinfer.sinks.sql.upsert import Row

_MOST_REMEMBERED = 10_000

MOST_S = 10.0
"""Longest search in one try; whoever waits for it gives up after three times that."""

_CERTAIN_S = 300.0
"""How long a refusal counts in further tries: the table may be altered."""

_UNCLEAR = 16
"""After so many rows refused for an unclear reason, look whether the table takes any."""

RowKey = tuple[str, int]


class Suspects:
    """What earlier transactions have shown of rows that were refused.

    A row that was refused for an unclear reason is to blame when the table has taken others
    between two refusals of it. And rows whose refusal is certain need not be looked for again when
    a search ended before its time.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._since: OrderedDict[RowKey, int] = OrderedDict()
        self._certain: OrderedDict[RowKey, tuple[bytes, str, float]] = OrderedDict()

    def others_were_taken(self) -> None:
        """Note that a transaction with rows was committed."""
        self._taken += 1

    def is_guilty(self, key: RowKey) -> bool:
        """Whether others were taken since the row was refused for the first time."""
        since = self._since.setdefault(key, self._taken)
        if len(self._since) > _MOST_REMEMBERED:
            self._since.popitem(last=False)
        return since < self._taken

    def note_certain(self, key: RowKey, row: Row, why: str) -> None:
        """Keep a refusal for the next search."""
        self._certain[key] = (_digest(row), why, time.monotonic())
        if len(self._certain) > _MOST_REMEMBERED:
            self._certain.popitem(last=False)

    def certain(self, key: RowKey, row: Row) -> str | None:
        """Why this very row was refused by a search that did not come to its end."""
        digest, why, at_s = self._certain.get(key, (b"", "", 0.0))
        is_known = bool(digest) and time.monotonic() - at_s < _CERTAIN_S and digest == _digest(row)
        return why if is_known else None

    def clear(self, keys: Iterable[RowKey]) -> None:
        """Forget rows whose case is decided."""
        for key in keys:
            self._since.pop(key, None)
            self._certain.pop(key, None)


def _digest(row: Row) -> bytes:
    """Tells rows apart, whenever they are written."""
    values = {name: value for name, value in row.items() if name != "written_at"}
    return blake2b(repr(values).encode("utf-8", "backslashreplace"), digest_size=16).digest()


class RowSearch:
    """Writes the rows of one transaction, all but those that are refused.

    Args:
        connection: within the transaction.
        upsert: writes rows.
        suspects: what is known from earlier transactions.
        probe: a row that the table takes if it takes anything: no values of results.
        most_s: a search that takes longer goes on in the next try.
    """

    def __init__(
        self,
        connection: Connection,
        upsert: Callable[[Connection, Sequence[Row]], None],
        suspects: Suspects,
        probe: Callable[[], Row],
        *,
        most_s: float = MOST_S,
    ) -> None:
        self._connection = connection
        self._upsert = upsert
        self._suspects = suspects
        self._probe = probe
        self._until_s = time.monotonic() + most_s
        self._refused: dict[RowKey, str] = {}
        self._unclear: dict[RowKey, str] = {}
        self._has_taken = False
        self._takes_probe: bool | None = None

    def write(self, keys: Sequence[RowKey], make_row: Callable[[RowKey], Row]) -> dict[RowKey, str]:
        """Write rows in this order.

        Args:
            keys: of the rows, ascending.
            make_row: the row of a key; what it raises is the row's own fault.

        Returns:
            Those that are refused, and why.

        Raises:
            SinkUnavailableError: nothing shows that it is due to the rows, or the search takes
                too long for one try.
            Exception: what passes; see ``errors``.
        """
        rows: list[tuple[RowKey, Row]] = []
        for key in keys:
            try:
                row = make_row(key)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                self._refused[key] = error_text(error)
                continue
            if (why := self._suspects.certain(key, row)) is not None:
                self._refused[key] = why
            else:
                rows.append((key, row))
        if rows:
            self._halve(rows)
        if self._unclear and not self._is_due_to_rows():
            raise SinkUnavailableError(next(iter(self._unclear.values())))
        refused = self._refused | self._unclear
        self._suspects.clear(refused)
        return refused

    def _halve(self, rows: list[tuple[RowKey, Row]]) -> None:
        error = self._refusal([row for _, row in rows])
        if error is None:
            self._has_taken = True
        elif len(rows) == 1:
            self._blame(*rows[0], error)
        else:
            middle = len(rows) // 2
            self._halve(rows[:middle])
            self._halve(rows[middle:])

    def _blame(self, key: RowKey, row: Row, error: Exception) -> None:
        """A row was refused alone."""
        why = error_text(error)
        if blame(error) == "value":
            self._refused[key] = why
        else:
            self._unclear[key] = why
            # Not to ask about each of thousands of rows while the table takes none at all.
            if len(self._unclear) % _UNCLEAR == 0 and not self._is_due_to_rows():
                raise SinkUnavailableError(why)
            if not (self._has_taken or self._takes_probe):
                return
        self._suspects.note_certain(key, row, why)
        if time.monotonic() > self._until_s:
            count = len(self._refused) + len(self._unclear)
            raise SinkUnavailableError(
                f"{count} rows are refused ({why}); others are looked for in the next try"
            )

    def _is_due_to_rows(self) -> bool:
        """Whether something shows that the table takes others than those of unclear reasons."""
        if self._has_taken:
            return True
        if self._takes_probe is None:
            self._takes_probe = self._try_probe()
        if self._takes_probe:
            return True
        guilty = [self._suspects.is_guilty(key) for key in self._unclear]
        return all(guilty)

    def _refusal(self, rows: list[Row]) -> Exception | None:
        """What the table says to rows that it does not take; of those it has none then."""
        savepoint = self._connection.begin_nested()
        try:
            self._upsert(self._connection, rows)
            savepoint.commit()
        except Exception as error:
            if blame(error) == "passing":
                raise
            savepoint.rollback()
            return error
        return None

    def _try_probe(self) -> bool:
        """Whether the table takes a row without values of results. None is left there."""
        savepoint = self._connection.begin_nested()
        try:
            self._upsert(self._connection, [self._probe()])
        except Exception as error:
            if blame(error) == "passing":
                raise
            return blame(error) == "value"  # the statement itself is right
        finally:
            if savepoint.is_active:
                savepoint.rollback()
        return True


def probe_row(like: Row, mapped: Sequence[str]) -> Row:
    """A row of no meaning: a key that nobody has, and nothing in the columns of results."""
    neutral = {name: value for name, value in like.items() if name not in mapped}
    neutral |= {"base_id": f"probe {uuid4().hex}", "result": "null"}
    neutral |= dict.fromkeys(("window_id", "task", "source_partition", "item_key"), "probe")
    return neutral | dict.fromkeys(mapped)
