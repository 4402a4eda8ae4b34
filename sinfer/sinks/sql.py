"""The sql sink: each result a row, upserted by window and ordinal."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator

from sinfer.checks import Checked
from sinfer.config import ConfigModel
from sinfer.extras import extras_named
from sinfer.masking import without_credentials
from sinfer.own_thread import OwnThread
from sinfer.results import WindowResults
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.shared import SharedByLoop
from sinfer.units import Duration, Secret

if TYPE_CHECKING:
    from sinfer.sinks.sql_writer import SqlTarget, SqlWriter

DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")
OWN_COLUMNS = frozenset(
    {
        "window", "ordinal", "revision", "attempt", "window_id", "task", "partition", "key",
        "window_start", "window_end", "close_reason", "result", "written_at",
    }
)  # fmt: skip

_DIALECT = re.compile(r"([a-z0-9]+)(\+[a-z0-9_]+)?://", re.IGNORECASE)
_PLACES = {"host", "port", "service", "unix_socket", "options"}
"""Parameters of a URL that say which server or schema is meant."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""Letters, digits and ``_``, at most 63, the first no digit."""


class MappedColumn(ConfigModel):
    """A further column that takes one field of each result."""

    field: str
    """A top-level field of results that are objects; the column is NULL where it is missing."""
    type: Literal["json", "text", "integer", "float", "boolean"] = "json"
    """Type of the column when sinfer makes the table."""


def _make_writer(target: SqlTarget) -> SqlWriter:
    from sinfer.sinks.sql_writer import SqlWriter

    return SqlWriter(target)


_writers: SharedByLoop[SqlTarget, SqlWriter] = SharedByLoop(_make_writer)


class SqlSink(Sink):
    """Upserts results into a table of SQLite, PostgreSQL, MySQL or MariaDB.

    The primary key is ``(window, ordinal)``: the window's id without the revision, and the place
    of the result; for results that are known by their messages (``ack: done``), the partition and
    the stream sequence. In front of the id stand the product and the incarnation of the source. A
    row is replaced unless the stored ``(revision, attempt)`` is higher, so that writing again, in
    any order, leaves each result once, of the newest revision.

    The table is made when it is missing. All sinks of an event loop that write to it share one
    connection and its transactions: what arrives during a commit goes together in the next.
    """

    type = "sql"

    class Config(SinkConfig):
        """Settings of the sql sink."""

        # ``schema`` itself is taken by pydantic.
        model_config = ConfigDict(serialize_by_alias=True)

        type: Literal["sql"] = "sql"
        url: Secret
        """The database as SQLAlchemy names it, such as ``postgresql://user:${PASSWORD}@host/db``
        or ``sqlite:////var/lib/results.db``."""
        table: Identifier
        """The table; made when it is missing."""
        schema_: Identifier | None = Field(default=None, alias="schema")
        """The schema of the table; by default the connection's."""
        columns: dict[Identifier, str | MappedColumn] = Field(default_factory=dict)
        """Further columns: the name, and the field of the result that it takes. A table that is
        there already must have them; in one that sinfer makes they are of type ``json``, or of
        the ``type`` in ``{field: score, type: float}``."""
        timeout: Duration = Field(default="10s", validate_default=True)
        """Longest wait for a connection, for a lock, and for one statement."""

        @field_validator("url")
        @classmethod
        def _dialect(cls, value: SecretStr) -> SecretStr:
            found = _DIALECT.match(value.get_secret_value())
            if found is None:
                raise ValueError("is a database URL: dialect://user:password@host/database")
            if found[1].lower() not in DIALECTS:
                raise ValueError(f"{found[1]!r} is not supported; use {', '.join(DIALECTS)}")
            return value

        @field_validator("columns")
        @classmethod
        def _own_names(cls, value: dict[str, str | MappedColumn]) -> dict[str, str | MappedColumn]:
            if taken := sorted(OWN_COLUMNS.intersection(name.lower() for name in value)):
                raise ValueError(f"{taken[0]!r} is a column of the sink itself; use another name")
            return value

        def replaces_in(self) -> Hashable:
            """The table, however its URL is written."""
            return _table_of(self.url.get_secret_value(), self.schema_, self.table)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        with extras_named("sinks: sql: "):
            import sqlalchemy  # noqa: F401
        self._target = _target(config)
        # A URL or driver that cannot be used should show here, not at the first window.
        from sinfer.sinks.sql_database import make_engine

        make_engine(self._target.url, self._target.timeout_s).dispose()
        self._writer: SqlWriter | None = None

    async def write(self, results: WindowResults) -> None:
        if self._writer is None:
            self._writer = _writers.acquire(self._target)
        await self._writer.write(results)

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        if self._writer is None:
            self._writer = _writers.acquire(self._target)
        return await self._writer.stored(windows)

    async def check(self) -> list[Checked]:
        from sinfer.sinks.sql_check import checked_table

        target = self._target
        mapped = {name: kind for name, _, kind in target.columns}
        look = partial(
            checked_table, target.url, target.table, target.schema, mapped, target.timeout_s
        )
        try:
            async with asyncio.timeout(3 * target.timeout_s):
                return await OwnThread[list[Checked]]("sinfer-check").call(look)
        except TimeoutError:
            text = f"{self.server} does not answer in time; does it hang?"
            return [Checked("unreachable", text, "url", is_silent=True)]

    @property
    def server(self) -> str:
        return without_credentials(self._target.url)

    async def aclose(self) -> None:
        if self._writer is not None:
            self._writer = None
            await _writers.release(self._target)


def _table_of(url: str, schema: str | None, table: str) -> Hashable:
    """A table of a database, the same however the URL is written."""
    found = _DIALECT.match(url)
    assert found is not None, "the field's own validator comes first"
    dialect, where = found[1].lower(), url[found.end() :]
    if dialect == "sqlite":
        path = where.removeprefix("/").partition("?")[0]
        is_file = path not in ("", ":memory:")
        return dialect, os.path.realpath(path) if is_file else "", table.lower()
    parts = urlsplit(f"//{where}")
    place = (parts.hostname or "localhost", parts.port or _PORTS[dialect], parts.path)
    where_else = sorted(pair for pair in parse_qsl(parts.query) if pair[0] in _PLACES)
    if dialect == "postgresql":
        return dialect, place, *where_else, schema, table
    # Whether names of tables differ by case is a setting of the server.
    return "mysql", place, *where_else, (schema or "").lower(), table.lower()


def _target(config: SqlSink.Config) -> SqlTarget:
    from sinfer.sinks.sql_writer import SqlTarget

    columns = [
        (name, MappedColumn(field=column) if isinstance(column, str) else column)
        for name, column in config.columns.items()
    ]
    return SqlTarget(
        url=config.url.get_secret_value(),
        table=config.table,
        schema=config.schema_,
        columns=tuple((name, column.field, column.type) for name, column in columns),
        timeout_s=config.timeout.total_seconds(),
    )
