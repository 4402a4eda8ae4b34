"""Writes windows into one table, in transactions that sinks of an event loop share."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, func, inspect, make_url, select, text

from sinfer.aio.batching import Batcher
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.sinks.sql.database import make_engine, sqlite_file
from sinfer.sinks.sql.errors import blame, error_text, is_over
from sinfer.sinks.sql.refused_rows import MOST_S, RowKey, RowSearch, Suspects, probe_row
from sinfer.sinks.sql.rows import RowMaker
from sinfer.sinks.sql.table import MOST_NARROW, SinkTable, open_table
from sinfer.sinks.sql.target import SqlTarget
from sinfer.sinks.sql.upsert import Row, Upsert, drop_older
from sinfer.types.result import ResultRow, WindowResults

MAX_ROWS = 5_000
"""Rows of one transaction, unless a single window has more."""

_LOOK_S = 60.0
"""How long the types of the table's columns are taken to be what they were."""

_TRIES = 3
_NO_TRANSACTIONS = "statement pooling mode"
"""What PgBouncer says of transactions when it pools statements."""

_PACKET = "SELECT @@max_allowed_packet"
_PACKET_REST = 16 * 1024
"""Bytes of a statement beside the values of a row."""
_ESCAPED = re.compile(rb"[\x00\n\r\x1a\"'\\\\]")

WindowRow = tuple[int, int]
"""A row of a window: the window's identity in this process, and the ordinal."""


class SqlWriter:
    """The only writer of a target in its event loop.

    Raises:
        ConfigError: the URL cannot be used.
    """

    def __init__(self, target: SqlTarget) -> None:
        self._target = target
        self._engine = make_engine(target.url, target.timeout_s)
        self._dialect = self._engine.dialect.name
        url = self._engine.url
        self._place = f"{self._dialect}://{url.host or ''}/{url.database}, table {target.table!r}"
        self._table: SinkTable | None = None
        self._looked_s = 0.0
        self._upserts: Upsert | None = None
        self._most_bytes: int | None = None
        self._suspects = Suspects()
        self._write: Batcher[WindowResults, None] = Batcher(
            self._commit_in_a_thread, size=len, max_size=MAX_ROWS
        )

    async def write(self, results: WindowResults) -> None:
        """Write a window; when this returns it is committed.

        Raises:
            SinkUnavailableError: not now.
            SinkRejectedError: never.
        """
        if not results.rows and not results.revision:
            return
        await self._write(results)

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]]:
        """How many rows there are of each window, by ordinal; without a table there is none.

        Raises:
            SinkUnavailableError: the database cannot be asked.
        """
        try:
            return await asyncio.to_thread(self._find, windows)
        except Exception as error:
            told = f"{self._place} cannot be asked: {error_text(error)}"
            raise SinkUnavailableError(told) from error

    def _find(self, windows: Sequence[WindowResults]) -> list[dict[int, int]]:
        target = self._target
        none = [{row.ordinal: 0 for row in window} for window in windows]
        if (file := sqlite_file(make_url(target.url))) is not None and not file.exists():
            return none  # to connect would make it
        with self._connect() as connection:
            if not inspect(connection).has_table(target.table, schema=target.schema):
                return none
            table = self._open_table(connection)
            return [self._rows_of(connection, table, window) for window in windows]

    def _rows_of(
        self, connection: Connection, table: SinkTable, window: WindowResults
    ) -> dict[int, int]:
        wanted = [row.ordinal for row in window]
        base_id, ordinal = table.table.c.base_id, table.table.c.ordinal
        query = (
            select(ordinal, func.count())
            .where(base_id == table.base_id(window.base_id))
            .group_by(ordinal)
        )
        if window.by_message:  # all windows of the partition have that name
            low, high = min(wanted, default=0), max(wanted, default=0)
            query = query.where(ordinal.between(low, high))
        found = {int(place): int(count) for place, count in connection.execute(query)}
        if window.by_message:
            return {place: found.get(place, 0) for place in wanted}
        return dict.fromkeys(wanted, 0) | found

    async def aclose(self) -> None:
        """Wait for what is under way and close the connections."""
        await self._write.aclose()
        await asyncio.to_thread(self._engine.dispose)

    async def _commit_in_a_thread(
        self, windows: Sequence[WindowResults]
    ) -> Sequence[SinkRejectedError | None]:
        return await asyncio.to_thread(self._commit, windows)

    def _commit(self, windows: Sequence[WindowResults]) -> Sequence[SinkRejectedError | None]:
        """One transaction for all of the windows; in a thread.

        Returns:
            For each window what the table refuses of it, if anything.
        """
        try:
            refused = self._commit_soon(windows)
        except SinkUnavailableError as error:
            self._table = None  # Perhaps it is put right meanwhile: look again.
            raise SinkUnavailableError(f"{self._place} cannot take results: {error}") from error
        except Exception as error:
            self._table = None  # Perhaps it was dropped or altered: look again.
            told = f"{self._place} cannot take results: {error_text(error)}"
            if _NO_TRANSACTIONS in told:
                told += "; have PgBouncer pool transactions (pool_mode = transaction)"
            raise SinkUnavailableError(told) from error
        return [self._refusal(window, refused) for window in windows]

    def _commit_soon(self, windows: Sequence[WindowResults]) -> dict[WindowRow, str]:
        """As ``_commit_all``, once more where only other transactions or a lost connection are
        to blame: the rows are the same, so nothing is written twice."""
        for _ in range(_TRIES - 1):
            try:
                return self._commit_all(windows)
            except Exception as error:
                if not is_over(error):
                    raise
        return self._commit_all(windows)

    def _commit_all(self, windows: Sequence[WindowResults]) -> dict[WindowRow, str]:
        """Write all that the table takes; returns what it refuses and why.

        Rows that have to be looked for cost more, so that is done only once some were refused.
        """
        with self._connect() as connection:
            if self._table is None or time.monotonic() - self._looked_s > _LOOK_S:
                self._table = self._open_table(connection)
            batch = _Batch(windows, self._table)
            try:
                self._upsert(connection, self._table, batch)
                connection.commit()
            except Exception as error:
                if isinstance(error, SinkUnavailableError) or blame(error) == "passing":
                    raise
                connection.rollback()
            else:
                self._note_taken(batch, {})
                return {}
            self._table = self._open_table(connection)  # what it takes may have changed
            batch = _Batch(windows, self._table)
            refused = self._search(connection, self._table, batch)
            connection.commit()
            self._note_taken(batch, refused)
        return {(id(batch.rows[key][0]), key[1]): why for key, why in refused.items()}

    def _refusal(
        self, window: WindowResults, refused: dict[WindowRow, str]
    ) -> SinkRejectedError | None:
        found = {row.ordinal: refused.get((id(window), row.ordinal)) for row in window}
        ordinals = [ordinal for ordinal, why in found.items() if why is not None]
        if not ordinals:
            return None
        return SinkRejectedError(
            f"{self._place} refuses results: {found[ordinals[0]]}", ordinals=ordinals
        )

    def _note_taken(self, batch: _Batch, refused: dict[RowKey, str]) -> None:
        if len(batch.rows) > len(refused):
            self._suspects.others_were_taken()

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except Exception as error:
            if blame(error) == "passing":
                raise
            raise SinkUnavailableError(
                f"it cannot be connected to: {error_text(error)}; correct the options of 'url'"
            ) from error

    def _open_table(self, connection: Connection) -> SinkTable:
        target = self._target
        table = open_table(connection, target.table, target.schema, target.columns)
        if self._dialect in ("mysql", "mariadb"):
            self._most_bytes = int(connection.execute(text(_PACKET)).scalar_one()) - _PACKET_REST
        connection.commit()
        self._looked_s = time.monotonic()
        return table

    def _upsert(self, connection: Connection, table: SinkTable, batch: _Batch) -> None:
        if batch.rows:
            make_row = self._row_maker(table, batch)
            rows = [make_row(key) for key in batch.keys]
            self._write_rows(table)(connection, rows)
        batch.drop_older(connection, table)

    def _write_rows(self, table: SinkTable) -> Upsert:
        if self._upserts is None or self._upserts.target is not table:
            self._upserts = Upsert(table, self._dialect)
        return self._upserts

    def _search(self, connection: Connection, table: SinkTable, batch: _Batch) -> dict[RowKey, str]:
        """As ``_upsert``, without the rows that are refused, which are returned."""
        if self._dialect == "sqlite":  # else a savepoint is a transaction of its own
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        if self._dialect == "postgresql":  # else only the commit would tell, and not of which row
            connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        make_row = self._row_maker(table, batch)
        mapped = [column.name for column in self._target.columns]
        search = RowSearch(
            connection,
            self._write_rows(table),
            self._suspects,
            lambda: probe_row(make_row(batch.keys[0]), mapped),
            most_s=MOST_S,
        )
        refused = search.write(batch.keys, make_row) if batch.rows else {}
        batch.drop_older(connection, table)
        return refused

    def _row_maker(self, table: SinkTable, batch: _Batch) -> Callable[[RowKey], Row]:
        self._check_width(table, batch.keys)
        to_row = RowMaker(table, self._target.columns, self._dialect)
        now, most = datetime.now(UTC), self._most_bytes

        def make(key: RowKey) -> Row:
            window, row = batch.rows[key]
            made = to_row(window, row, now)
            # The server would close the connection, which looks like an outage.
            if most is not None and 4 * len(row.data) > most and (size := _escaped(made)) > most:
                raise ValueError(f"the row has {size} bytes, max_allowed_packet admits {most}")
            return made

        return make

    def _check_width(self, table: SinkTable, keys: Sequence[RowKey]) -> None:
        ordinal = max((ordinal for _, ordinal in keys), default=0)
        if table.is_narrow and ordinal > MOST_NARROW:
            raise SinkUnavailableError(
                f"column 'ordinal' has 4 bytes, too few for stream sequence {ordinal};"
                " make it a BIGINT (ALTER TABLE)"
            )


def _escaped(row: Row) -> int:
    """Bytes that the texts of a row have in a statement of MySQL."""
    texts = [
        value.encode() if isinstance(value, str) else value
        for value in row.values()
        if isinstance(value, str | bytes)
    ]
    return sum(len(value) + len(_ESCAPED.findall(value)) for value in texts)


class _Batch:
    """The rows of one transaction.

    Attributes:
        rows: by their keys, with their windows. Of a row that comes twice only the newest.
        keys: of the rows, ascending. The same order everywhere: transactions that share rows then
            wait, and never deadlock.
    """

    def __init__(self, windows: Sequence[WindowResults], table: SinkTable) -> None:
        named = [(table.base_id(w.base_id), w) for w in windows]
        ascending = sorted(named, key=lambda one: (one[0], one[1].revision, one[1].attempt))
        self.rows: dict[RowKey, tuple[WindowResults, ResultRow]] = {
            (name, row.ordinal): (window, row) for name, window in ascending for row in window
        }
        self.keys = sorted(self.rows)
        self._newest = {name: w.revision for name, w in ascending if not w.by_message}

    def drop_older(self, connection: Connection, table: SinkTable) -> None:
        """Delete what older revisions left of the windows."""
        if self._newest:
            drop_older(connection, table.table, self._newest)
