"""Writes windows into one table, in transactions that sinks of an event loop share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table
from sqlalchemy.exc import SQLAlchemyError

from sinfer.errors import SinkUnavailableError
from sinfer.results import WindowResults
from sinfer.sinks.group_commit import GroupCommit
from sinfer.sinks.sql_database import limit_waits, make_engine, sink_error
from sinfer.sinks.sql_rows import RowMaker
from sinfer.sinks.sql_table import MOST_NARROW, NARROW, open_table, window_name
from sinfer.sinks.sql_upsert import drop_older, upsert

MAX_ROWS = 5_000
"""Rows of one transaction, unless a single window has more."""


@dataclass(frozen=True)
class SqlTarget:
    """A table of a database; equal targets share a writer.

    Attributes:
        url: of the database, secrets included.
        columns: further columns: name, field of the result, type (see ``MAPPED_TYPES``).
        timeout_s: longest wait for a connection, for a lock, and for one statement.
    """

    url: str
    table: str
    schema: str | None
    columns: tuple[tuple[str, str, str], ...]
    timeout_s: float

    def __repr__(self) -> str:
        return f"<SqlTarget {self.table}>"


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
        self._table: Table | None = None
        self._group = GroupCommit(self._commit, size=len, max_size=MAX_ROWS)

    async def write(self, results: WindowResults) -> None:
        """Write a window; when this returns it is committed.

        Raises:
            SinkUnavailableError: not now.
            SinkRejectedError: never.
        """
        if not results.rows and not results.revision:
            return
        await self._group.write(results)

    async def aclose(self) -> None:
        """Wait for what is under way and close the connections."""
        await self._group.aclose()
        await asyncio.to_thread(self._engine.dispose)

    def _commit(self, windows: Sequence[WindowResults]) -> None:
        """One transaction for all of the windows; in a thread."""
        try:
            with self._engine.connect() as connection:
                if self._table is None:
                    self._table = self._open_table(connection)
                self._upsert(connection, self._table, windows)
                connection.commit()
        except SinkUnavailableError:
            self._table = None  # Perhaps it is put right meanwhile: look again.
            raise
        except (SQLAlchemyError, OSError, ValueError, TypeError, OverflowError) as error:
            told = sink_error(error, self._place)
            if isinstance(told, SinkUnavailableError):
                self._table = None  # Perhaps it was dropped or altered: look again.
            raise told from error

    def _open_table(self, connection: Connection) -> Table:
        target = self._target
        limit_waits(connection, target.timeout_s)
        mapped = {name: kind for name, _, kind in target.columns}
        table = open_table(connection, target.table, target.schema, mapped)
        connection.commit()
        return table

    def _upsert(
        self, connection: Connection, table: Table, windows: Sequence[WindowResults]
    ) -> None:
        limit_waits(connection, self._target.timeout_s)
        # The same order everywhere: transactions that share rows then wait, and never deadlock.
        # Of a row that comes twice the newest goes last, and replaces the others here.
        names = {w.base_id: window_name(table, w.base_id) for w in windows}
        ascending = sorted(windows, key=lambda w: (names[w.base_id], w.revision, w.attempt))
        rows = {(names[w.base_id], row.ordinal): (w, row) for w in ascending for row in w}
        now = datetime.now(UTC)
        if rows:
            self._check_width(table, max(ordinal for _, ordinal in rows))
            to_row = RowMaker(table, self._target.columns, self._dialect)
            connection.execute(
                upsert(table, self._dialect),
                [to_row(window, row, now) for _, (window, row) in sorted(rows.items(), key=_key)],
            )
        newest = {names[w.base_id]: w.revision for w in ascending if not w.by_message}
        if newest:
            connection.execute(
                drop_older(table),
                [{"base": base, "newest": revision} for base, revision in newest.items()],
            )

    def _check_width(self, table: Table, ordinal: int) -> None:
        if table.info[NARROW] and ordinal > MOST_NARROW:
            raise SinkUnavailableError(
                f"{self._place}: column 'ordinal' has 4 bytes, too few for stream sequence"
                f" {ordinal}; make it a BIGINT (ALTER TABLE)"
            )


def _key(item: tuple[tuple[str, int], object]) -> tuple[str, int]:
    return item[0]
