"""Whether the sql sink could write its table. Nothing is made, and nothing is written.

Databases look at a user's rights, at columns and at keys also when they are only asked to EXPLAIN a
statement; so the sink's own statements are explained. What has to be made first, a table, is asked
about in each database's own way.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Engine,
    Integer,
    Numeric,
    String,
    Table,
    Text,
    create_engine,
    inspect,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.dml import Delete, Insert
from sqlalchemy.types import TypeEngine

from sinfer.errors import ConfigError, SinkUnavailableError
from sinfer.logging.masking import without_credentials
from sinfer.sinks.sql.database import make_engine
from sinfer.sinks.sql.errors import error_text
from sinfer.sinks.sql.table import look_up, wanted_table
from sinfer.sinks.sql.target import SqlTarget
from sinfer.sinks.sql.upsert import Upsert, delete_older
from sinfer.types.check import Checked, Verdict, causes, connection_problem

_WORDS: tuple[tuple[str, Verdict, str], ...] = (
    (r"28P01|28000|1045\b|1698\b|password authentication|no password supplied|role .* does not"
     r" exist|Access denied for user .*password", "error",
     "refuses the user or password ({}); correct them, or have the user made"),
    (r"3D000|1049\b|database .* does not exist|Unknown database", "error",
     "has no such database ({}); make it, or correct its name"),
    (r"1044\b|permission denied for database|no pg_hba.conf entry", "error",
     "does not let this user in ({}); give it the right to connect"),
    (r"certificate verify failed|SSL|TLS", "error",
     "and TLS do not go together ({}); correct the options of TLS"),
    (r"could not translate host name|Name or service not known|Temporary failure in name"
     r"|getaddrinfo|failed to resolve|No address associated", "unreachable",
     "has a name that cannot be resolved ({}); correct it"),
    (r"refused", "unreachable",
     "refuses connections: nothing listens there; is it running, is the port right?"),
    (r"timeout|timed out", "unreachable",
     "does not answer in time; does it hang, or does a firewall drop what is sent?"),
)  # fmt: skip
"""How databases and drivers say why there is no connection, which may come without a code."""

_PROBE = {
    "base_id": "check", "ordinal": 0, "revision": 0, "attempt": 0, "window_id": "", "task": "",
    "source_partition": "", "item_key": "", "close_reason": "count", "result": "{}",
    "written_at": "2000-01-01 00:00:00", "rows": "[]", "name": "check", "below": 0,
}  # fmt: skip
"""Values of a row that is explained, and never written."""

_KINDS: dict[str, type[TypeEngine[Any]]] = {
    "base_id": Text, "ordinal": Integer, "revision": Integer, "attempt": Integer,
    "window_id": Text, "window_start": DateTime, "window_end": DateTime, "result": JSON,
}  # fmt: skip
_OTHERS: dict[type[TypeEngine[Any]], tuple[type[TypeEngine[Any]], ...]] = {
    Text: (Numeric, Integer, Boolean, DateTime, JSON),
    Integer: (String, Boolean, DateTime, JSON),
    DateTime: (Numeric, Integer, Boolean, JSON),
    JSON: (Numeric, Integer, Boolean, DateTime),
}
"""Types that cannot take what a column of another is given."""

_DENIED = re.compile(r"42501|\b(1142|1143|1227|1370|1044|1045)\b|permission denied|denied", re.I)


def checked_table(target: SqlTarget) -> list[Checked]:
    """Look at a database and a table; in a thread."""
    url, name = target.url, target.table
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    if is_sqlite:
        path = _sqlite_file(url)
        if problem := _sqlite_problem(path):
            return [problem]
        if not path.exists():
            return [Checked("ok", f"{path} and its table {name!r} are made by the first result")]
        engine = _read_only(path)
        place = str(path)
    else:
        engine = make_engine(url, target.timeout_s)
        place = without_credentials(url)
    try:
        with engine.connect() as connection:
            try:
                return _look(connection, target, place)
            except SQLAlchemyError as error:
                return [_no_look(error, name, place)]
            finally:
                connection.rollback()
    except Exception as error:  # whatever drivers raise
        return [_no_connection(error, place)]
    finally:
        engine.dispose()


def _no_look(error: SQLAlchemyError, name: str, place: str) -> Checked:
    """The database lets the user in, and does not tell of the table."""
    told = _told(error)
    if _DENIED.search(told):
        text = f"{place}: this user has no right to table {name!r} ({told}); grant it"
        return Checked("error", text, "table")
    return Checked("unreachable", f"{place}: table {name!r} cannot be looked at: {told}", "table")


def _look(connection: Connection, target: SqlTarget, place: str) -> list[Checked]:
    if _takes_no_writes(connection):
        return [Checked("error", f"{place} takes no writes: it is a replica, or read-only", "url")]
    described = target.table, target.schema, target.columns
    wanted = wanted_table(*described)
    shown = wanted.fullname
    if not inspect(connection).has_table(target.table, target.schema):
        if why := _cannot_make(connection, wanted):
            text = f"{place} has no table {shown!r}, and this user may not make it ({why});"
            return [Checked("error", f"{text} make it, or give the user the right to", "table")]
        return [Checked("ok", f"{place} has no table {shown!r}: it is made by the first result")]
    try:
        table = look_up(connection, *described)
    except SinkUnavailableError as error:
        return [Checked("error", f"{place}: {error}", "table")]
    found = _types(connection, table.table, place)
    for what, statement in (
        ("INSERT and UPDATE", Upsert(table, connection.dialect.name).statement),
        ("DELETE", delete_older(table.table)),
    ):
        if why := _refusal(connection, statement):
            is_denied = _DENIED.search(why) is not None
            remedy = (
                f"this user has no right to {what} table {shown!r} ({why}); grant it"
                if is_denied
                else f"table {shown!r} takes no results ({why}); correct it, or name another table"
            )
            found.append(Checked("error", f"{place}: {remedy}", "table"))
            break
    return found or [Checked("ok", f"{place}: table {shown!r} fits, and may be written")]


def _refusal(connection: Connection, statement: Insert | Delete) -> str:
    """Why a statement would be refused; empty when it would not."""
    compiled = statement.compile(dialect=connection.dialect)
    names = compiled.positiontup if compiled.positional else list(compiled.params)
    values = {name: _PROBE.get(name) for name in names or ()}
    given = tuple(values[name] for name in names or ()) if compiled.positional else values
    savepoint = connection.begin_nested() if connection.in_transaction() else connection.begin()
    try:
        connection.exec_driver_sql(f"EXPLAIN {compiled}", given)
    except SQLAlchemyError as error:
        return _told(error)
    finally:
        savepoint.rollback()
    return ""


def _takes_no_writes(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    query = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"
    return bool(connection.execute(text(query)).scalar())


def _cannot_make(connection: Connection, wanted: Table) -> str:
    """Why a table cannot be made; empty when it can."""
    if connection.dialect.name == "postgresql":
        return _no_place(connection, wanted.schema)
    if connection.dialect.name == "sqlite":
        return ""
    known = text("SELECT count(*) FROM information_schema.schemata WHERE schema_name = :name")
    if wanted.schema and not connection.execute(known, {"name": wanted.schema}).scalar():
        return f"there is no database {wanted.schema!r}, or none for this user"
    # Rights are looked at when a statement is prepared.
    create = str(CreateTable(wanted).compile(dialect=connection.dialect))
    try:
        connection.exec_driver_sql("SET @sinfer_check = %s", (create,))
        connection.exec_driver_sql("PREPARE sinfer_check FROM @sinfer_check")
        connection.exec_driver_sql("DEALLOCATE PREPARE sinfer_check")
    except SQLAlchemyError as error:
        return _told(error)
    return ""


def _no_place(connection: Connection, schema: str | None) -> str:
    """Why PostgreSQL would make no table in a schema; empty when it would."""
    name = schema or connection.execute(text("SELECT current_schema()")).scalar()
    if name is None:
        return "no schema of its search_path exists"
    known = text("SELECT count(*) FROM pg_namespace WHERE nspname = :name")
    if not connection.execute(known, {"name": name}).scalar():
        return f"there is no schema {name!r}"
    right = text("SELECT has_schema_privilege(:name, 'CREATE')")
    if not connection.execute(right, {"name": name}).scalar():
        return f"no right to CREATE in schema {name!r}"
    return ""


def _types(connection: Connection, table: Table, place: str) -> list[Checked]:
    """Columns of the sink's own whose type cannot take what they are given."""
    if connection.dialect.name == "sqlite":  # takes anything anywhere
        return []
    columns = inspect(connection).get_columns(table.name, table.schema)
    types: dict[str, TypeEngine[Any]] = {column["name"]: column["type"] for column in columns}
    wrong = [
        f"{name} is {types[name]}, and takes {kind.__visit_name__}"
        for name, kind in ((table.c[key].name, kind) for key, kind in _KINDS.items())
        if isinstance(types.get(name), _OTHERS[kind])
    ]
    if not wrong:
        return []
    text = f"{place}: table {table.fullname!r}: {'; '.join(wrong)}; ALTER it, or name another"
    return [Checked("error", text, "table")]


# --- SQLite ---


def _sqlite_file(url: str) -> Path:
    database = make_url(url).database or ""
    return Path(database.removeprefix("file:").partition("?")[0])


def _sqlite_problem(path: Path) -> Checked | None:
    """Why the file cannot be made or written; beside it there are others while it is open."""
    directory = path.absolute().parent
    if not directory.is_dir():
        return Checked("error", f"there is no directory {directory}; make it", "url")
    if not os.access(directory, os.W_OK | os.X_OK):
        text = f"the directory {directory} cannot be written to; give this user the right"
        return Checked("error", text, "url")
    if path.exists() and not os.access(path, os.W_OK):
        return Checked("error", f"{path} cannot be written to; give this user the right", "url")
    return None


def _read_only(path: Path) -> Engine:
    where = f"file:{quote(str(path.absolute()))}?mode=ro"
    make: Callable[[], sqlite3.Connection] = lambda: sqlite3.connect(where, uri=True)  # noqa: E731
    return create_engine("sqlite://", creator=make, hide_parameters=True)


# --- no connection ---


def _told(error: BaseException) -> str:
    """What the server says, without what drivers put around it."""
    given: tuple[Any, ...] = getattr(getattr(error, "orig", None), "args", ())
    if len(given) == 2 and isinstance(given[0], int):
        return f"{given[1]}, error {given[0]}"
    return error_text(error).rpartition("FATAL:")[2].strip()


def _no_connection(error: Exception, place: str) -> Checked:
    if isinstance(error, ConfigError):
        return Checked("error", str(error), "url")
    told = _told(error)
    codes = [getattr(found, "sqlstate", None) or "" for found in causes(error)]
    words = " ".join([*codes, *(str(found) for found in causes(error))])
    for pattern, verdict, remedy in _WORDS:
        if re.search(pattern, words, re.IGNORECASE):
            return Checked(verdict, f"{place} {remedy.format(told)}", "url", verdict != "error")
    if (found := connection_problem(error)) is not None:
        return found._replace(text=f"{place} {found.text}", field="url")
    return Checked("unreachable", f"{place} cannot be asked: {told}", "url")
