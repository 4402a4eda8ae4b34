"""Connecting to a database through SQLAlchemy."""

from __future__ import annotations

import importlib.util
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SAWarning

from sinfer.errors import ConfigError

_DRIVERS = {
    "postgresql": ("psycopg", "psycopg2"),
    "mysql": ("MySQLdb", "pymysql"),
    "mariadb": ("MySQLdb", "pymysql"),
}
_WAL_RETRY_S = 0.01
_DRIVER_NAMES = {"MySQLdb": "mysqldb"}
_EXTRAS = {
    "postgresql": ("postgresql", "psycopg"),
    "mysql": ("mysql", "pymysql"),
    "mariadb": ("mysql", "pymysql"),
}
"""The extra that installs a driver for the dialect, and the driver."""

_SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO"
"""Without it MariaDB and MySQL cut values to what fits."""


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; None where it is none, or in memory, or given as a URI."""
    database = url.database
    if url.get_backend_name() != "sqlite" or not database or database.startswith((":", "file:")):
        return None
    return Path(database)


def make_engine(url: str, timeout_s: float) -> Engine:
    """An engine for one writing thread. It connects when it is first used.

    Args:
        url: SQLAlchemy's form; without a driver, the first that is installed is taken.
        timeout_s: longest wait for a connection, for a lock, and for one statement.

    Raises:
        ConfigError: the URL cannot be used, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(
            "sinks: sql: url: is no database URL; write dialect://user:password@host/database"
        ) from None
    dialect = parsed.get_backend_name()
    parsed = with_driver(parsed)
    if dialect == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("sinks: sql: url: results in memory are lost; name a file")
    try:
        with warnings.catch_warnings():
            # Else SQLAlchemy leaves out what a driver does not know.
            warnings.simplefilter("error", SAWarning)
            engine = create_engine(
                parsed,
                pool_size=1,
                max_overflow=0,
                pool_pre_ping=dialect != "sqlite",
                # MySQL's default locks gaps between rows: writers of different windows deadlock.
                isolation_level="SERIALIZABLE" if dialect == "sqlite" else "READ COMMITTED",
                hide_parameters=True,
                # What goes into JSON columns is JSON already.
                json_serializer=lambda encoded: encoded,
                connect_args=connect_args(parsed, timeout_s),
            )
    except ImportError as error:
        raise ConfigError(f"sinks: sql: url: {missing_driver(parsed, error)}") from None
    except NoSuchModuleError:
        raise ConfigError(
            f"sinks: sql: url: {parsed.drivername!r} is no driver that SQLAlchemy knows"
        ) from None
    except (SAWarning, ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(f"sinks: sql: url: its options cannot be used: {error}") from None
    if engine.dialect.is_async:
        raise ConfigError(
            f"sinks: sql: url: {parsed.drivername!r} is an async driver; write '{dialect}://'"
        )
    if dialect == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite(timeout_s))
    elif dialect == "postgresql":
        event.listen(engine, "begin", _set_up_postgresql(timeout_s))
    elif dialect in ("mysql", "mariadb"):
        event.listen(engine, "connect", _set_up_mysql(timeout_s))
    return engine


def with_driver(url: URL) -> URL:
    """The URL with the first driver that is installed, where it names none."""
    dialect = url.get_backend_name()
    if "+" not in url.drivername:
        for module in _DRIVERS.get(dialect, ()):
            if importlib.util.find_spec(module) is not None:
                name = _DRIVER_NAMES.get(module, module)
                return url.set(drivername=f"{url.drivername}+{name}")
    return url


def missing_driver(url: URL, error: ImportError) -> str:
    """What to tell of a driver that cannot be imported."""
    dialect, _, driver = url.drivername.partition("+")
    if not isinstance(error, ModuleNotFoundError):
        told = f"the driver {driver or dialect!r} cannot be loaded ({error})"
    else:
        told = f"the driver {error.name!r} is not installed"
    if dialect not in _EXTRAS:
        return told
    extra, ours = _EXTRAS[dialect]
    remedy = f"pip install 'sinfer[{extra}]'"
    if driver not in ("", ours):
        remedy = f"install it, or write {dialect}:// and {remedy}"
    return f"{told}; {remedy}"


def connect_args(url: URL, timeout_s: float) -> dict[str, Any]:
    """What a driver has to be told so that waiting for the server ends."""
    whole_s = max(1, round(timeout_s))
    driver = url.drivername.partition("+")[2]
    given: dict[str, Any]
    if driver in ("psycopg", "psycopg2"):
        given = {
            "connect_timeout": whole_s,
            "tcp_user_timeout": round(timeout_s * 1000),
            "keepalives_idle": whole_s,
            "keepalives_interval": whole_s,
            "keepalives_count": 2,
        }
        if driver == "psycopg":  # PgBouncer does not keep prepared statements
            given["prepare_threshold"] = None
    elif driver in ("pymysql", "mysqldb"):
        # Reading waits for locks as well, which have a limit of their own.
        given = {"connect_timeout": whole_s, "read_timeout": 2 * whole_s}
        given |= {"write_timeout": 2 * whole_s, "charset": "utf8mb4", "sql_mode": _SQL_MODE}
    else:
        given = {}
    return {name: value for name, value in given.items() if name not in url.query}


def _set_up_sqlite(timeout_s: float) -> Callable[[sqlite3.Connection, object], None]:
    def run(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {round(timeout_s * 1000)}")
        until = time.monotonic() + timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                # While another makes the file one with a log, SQLite does not wait for it.
                if time.monotonic() > until:
                    raise
            time.sleep(_WAL_RETRY_S)

    return run


def _set_up_mysql(timeout_s: float) -> Callable[[Any, Any], None]:
    def run(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            lock_s = max(1, round(timeout_s))
            cursor.execute(f"SET innodb_lock_wait_timeout = {lock_s}, time_zone = '+00:00'")

    return run


def _set_up_postgresql(timeout_s: float) -> Callable[[Connection], None]:
    """Have each transaction give up what takes too long, and take times as UTC.

    Not as options of the connection, which poolers refuse, nor of the session, which they share:
    others may have set something else there.
    """
    settings = {"lock_timeout": f"{timeout_s * 1000:.0f}", "TimeZone": "UTC"}
    settings["statement_timeout"] = settings["lock_timeout"]
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())

    def run(connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT {calls}")

    return run
