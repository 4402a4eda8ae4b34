"""The sql sink: each result a row, upserted by window and ordinal."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator, model_validator

from sinfer.aio.own_thread import OwnThread
from sinfer.aio.shared import SharedByLoop
from sinfer.config.model import ConfigModel
from sinfer.config.secret import ReferringSecret, Secret
from sinfer.config.units import Duration
from sinfer.extras import extras_named
from sinfer.logging.masking import without_credentials
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.sql.target import MappedColumn, MessagePart, SqlTarget
from sinfer.sinks.sql.url import resolved_url
from sinfer.types.check import Checked
from sinfer.types.result import WindowResults

if TYPE_CHECKING:
    from sinfer.sinks.sql.writer import SqlWriter

DIALECTS = ("sqlite", "postgresql", "mysql", "mariadb")
OWN_COLUMNS = frozenset(
    {
        "base_id", "ordinal", "revision", "attempt", "window_id", "task", "source_partition",
        "item_key", "window_start", "window_end", "close_reason", "result", "written_at",
    }
)  # fmt: skip

ColumnType = Literal["json", "text", "integer", "float", "boolean", "timestamp"]

_DIALECT = re.compile(r"([a-z0-9]+)(\+[a-z0-9_]+)?://", re.IGNORECASE)
_PLACES = {"host", "port", "service", "unix_socket", "options"}
"""Parameters of a URL that say which server or schema is meant."""
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_TWO_NAMES = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", re.ASCII)
_TYPE_OF_PART: dict[MessagePart, ColumnType] = {
    "sequence": "integer",
    "time": "timestamp",
    "subject": "text",
}
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
"""Letters, digits and ``_``, at most 63, the first no digit."""


class ColumnConfig(ConfigModel):
    """A further column that takes a field of each result, or a part of its message."""

    field: str | None = None
    """A top-level field of results that are objects; the column is NULL where it is missing."""
    message: MessagePart | None = None
    """Instead of a field: the stream sequence of the result's message, the time when JetStream
    stored it, or its subject. NULL where results are not those of single messages."""
    type: ColumnType | None = None
    """Type of the column when sinfer makes the table: ``json`` for a field; for a message's
    ``sequence`` ``integer``, for its ``time`` ``timestamp``, for its ``subject`` ``text``."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.field is None) == (self.message is None):
            raise ValueError("takes either a 'field' of the result or a part of its 'message'")
        return self

    def mapped(self, name: str) -> MappedColumn:
        """The column of this name."""
        default = "json" if self.message is None else _TYPE_OF_PART[self.message]
        return MappedColumn(name, self.field, self.message, self.type or default)


def _make_writer(target: SqlTarget) -> SqlWriter:
    from sinfer.sinks.sql.writer import SqlWriter

    return SqlWriter(target)


_writers: SharedByLoop[SqlTarget, SqlWriter] = SharedByLoop(_make_writer)


class SqlSink(Sink):
    """Upserts results into a table of SQLite, PostgreSQL, MySQL or MariaDB.

    The primary key is ``(base_id, ordinal)``: the window's id without the revision, and the place
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
        """The schema of the table, with MariaDB and MySQL the database; by default the
        connection's. It must be there."""
        columns: dict[Identifier, str | ColumnConfig] = Field(default_factory=dict)
        """Further columns: the name, and the field of the result that it takes, or
        ``{message: sequence}``, ``time`` or ``subject``. A table that is there already must have
        them; in one that sinfer makes they are of type ``json``, or of the ``type`` in
        ``{field: score, type: float}``."""
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
            if isinstance(value, ReferringSecret):
                return ReferringSecret(resolved_url(value.written), value.written)
            return value

        @field_validator("table", mode="before")
        @classmethod
        def _one_name(cls, value: Any) -> Any:
            if isinstance(value, str) and _TWO_NAMES.fullmatch(value):
                schema, _, table = value.partition(".")
                raise ValueError(f"is one name; write 'schema: {schema}' beside 'table: {table}'")
            return value

        @field_validator("columns")
        @classmethod
        def _own_names(cls, value: dict[str, str | ColumnConfig]) -> dict[str, str | ColumnConfig]:
            if taken := sorted(OWN_COLUMNS.intersection(name.lower() for name in value)):
                raise ValueError(f"{taken[0]!r} is a column of the sink itself; use another name")
            return value

        @model_validator(mode="after")
        def _fits_its_database(self) -> Self:
            dialect = _dialect_of(self.url.get_secret_value())
            if dialect == "sqlite" and self.schema_ not in (None, "main"):
                raise ValueError("SQLite has no schemas: leave 'schema' out, or name another file")
            lower = [name.lower() for name in self.columns]
            if dialect != "postgresql" and len(set(lower)) < len(lower):
                raise ValueError("columns: two names differ in upper and lower case only")
            return self

        def replaces_in(self) -> Hashable:
            """The table, however its URL is written."""
            return _table_of(self.url.get_secret_value(), self.schema_, self.table)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        with extras_named("sinks: sql: "):
            import sqlalchemy  # noqa: F401
        self._target = _target(config)
        # A URL or driver that cannot be used should show here, not at the first window.
        from sinfer.sinks.sql.database import make_engine

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
        from sinfer.sinks.sql.check import checked_table

        target = self._target
        look = partial(checked_table, target)
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


def _dialect_of(url: str) -> str:
    found = _DIALECT.match(url)
    return found[1].lower() if found is not None else ""


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
    columns = [
        (ColumnConfig(field=column) if isinstance(column, str) else column).mapped(name)
        for name, column in config.columns.items()
    ]
    return SqlTarget(
        url=config.url.get_secret_value(),
        table=config.table,
        schema=config.schema_,
        columns=tuple(columns),
        timeout_s=config.timeout.total_seconds(),
    )
