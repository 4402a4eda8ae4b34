"""Finds the rows that a table refuses, so that all others of the transaction are written.

Rows that were refused together are written again in halves, each within a savepoint, until those
that are refused stand alone. They go in the order of their keys as before, so that transactions
that share rows still wait for each other and never deadlock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.sql.dml import Insert

from sinfer.errors import SinkUnavailableError
from sinfer.sinks.sql_errors import blame, error_text

_MOST_REMEMBERED = 10_000

Row = dict[str, Any]
RowKey = tuple[str, int]


class Suspects:
    """Rows that were refused for an unclear reason while nothing showed that others are taken.

    When the table has taken others between two refusals of such a row, the row is to blame.
    """

    def __init__(self) -> None:
        self._taken = 0
        self._since: OrderedDict[RowKey, int] = OrderedDict()

    def others_were_taken(self) -> None:
        """Note that a transaction with rows was committed."""
        self._taken += 1

    def is_guilty(self, key: RowKey) -> bool:
        """Whether others were taken since the row was refused for the first time."""
        since = self._since.setdefault(key, self._taken)
        if len(self._since) > _MOST_REMEMBERED:
            self._since.popitem(last=False)
        return since < self._taken

    def clear(self, keys: Sequence[RowKey]) -> None:
        """Forget rows whose case is decided."""
        for key in keys:
            self._since.pop(key, None)


class RowSearch:
    """Writes the rows of one transaction, all but those that are refused.

    Args:
        connection: within the transaction.
        statement: the upsert.
        suspects: what is known from earlier transactions.
        probe: a row that the table takes if it takes anything: no values of results.
    """

    def __init__(
        self,
        connection: Connection,
        statement: Insert,
        suspects: Suspects,
        probe: Callable[[], Row],
    ) -> None:
        self._connection = connection
        self._statement = statement
        self._suspects = suspects
        self._probe = probe
        self._taken = 0

    def write(self, keys: Sequence[RowKey], make_row: Callable[[RowKey], Row]) -> dict[RowKey, str]:
        """Write rows in this order.

        Args:
            keys: of the rows, ascending.
            make_row: the row of a key; what it raises is the row's own fault.

        Returns:
            Those that are refused, and why.

        Raises:
            SinkUnavailableError: nothing shows that it is due to the rows.
            Exception: what passes; see ``sql_errors``.
        """
        rows: list[tuple[RowKey, Row]] = []
        refused: dict[RowKey, str] = {}
        for key in keys:
            try:
                rows.append((key, make_row(key)))
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                refused[key] = error_text(error)
        unclear: dict[RowKey, str] = {}
        if rows:
            for key, found in self._halve(rows):
                into = refused if blame(found) == "value" else unclear
                into[key] = error_text(found)
        if unclear and not self._taken and not self._takes_a_probe():
            guilty = [self._suspects.is_guilty(key) for key in unclear]
            if not all(guilty):
                raise SinkUnavailableError(next(iter(unclear.values())))
        refused |= unclear
        self._suspects.clear(list(refused))
        return refused

    def _halve(self, rows: list[tuple[RowKey, Row]]) -> Iterator[tuple[RowKey, Exception]]:
        error = self._refusal([row for _, row in rows])
        if error is None:
            self._taken += len(rows)
        elif len(rows) == 1:
            yield rows[0][0], error
        else:
            middle = len(rows) // 2
            yield from self._halve(rows[:middle])
            yield from self._halve(rows[middle:])

    def _refusal(self, rows: list[Row]) -> Exception | None:
        """What the table says to rows that it does not take; of those it has none then."""
        savepoint = self._connection.begin_nested()
        try:
            self._connection.execute(self._statement, rows)
            savepoint.commit()
        except Exception as error:
            if blame(error) == "passing":
                raise
            savepoint.rollback()
            return error
        return None

    def _takes_a_probe(self) -> bool:
        """Whether the table takes a row without values of results. None is left there."""
        savepoint = self._connection.begin_nested()
        try:
            self._connection.execute(self._statement, [self._probe()])
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
    neutral |= {"window": f"probe {uuid4().hex}", "result": "null"}
    neutral |= dict.fromkeys(("window_id", "task", "partition", "key"), "probe")
    return neutral | dict.fromkeys(mapped)
