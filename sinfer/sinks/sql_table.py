"""The table of the sql sink: made when it is missing, checked when it is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    inspect,
)
from sqlalchemy.dialects.mysql import DATETIME, VARCHAR
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import NullType, TypeEngine

from sinfer.errors import SinkUnavailableError
from sinfer.sinks.fitted import SHORTEST, fitted

MYSQL_ID_LENGTH = 512
KEY = ("window", "ordinal")

NARROW = "narrow"
"""Whether the table's ordinals end at ``MOST_NARROW``, noted in its ``info``."""
LENGTH = "length"
"""How many characters its column ``window`` takes, noted in its ``info``; None for any number."""
MOST_NARROW = 2**31 - 1

# Binary collation: ids that differ in case only are different.
_ID = Text().with_variant(VARCHAR(MYSQL_ID_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb")
_TEXT = Text().with_variant(Text(collation="utf8mb4_bin"), "mysql", "mariadb")
_TIME = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite makes numbers of what looks like one, and rounds them, unless the column is TEXT.
_RESULT = _JSON.with_variant(Text(), "sqlite")

MAPPED_TYPES: dict[str, TypeEngine[Any]] = {
    "json": _JSON,
    "text": Text(),
    "integer": BigInteger(),
    "float": Double(),
    "boolean": Boolean(),
}


def base_columns() -> list[Column[Any]]:
    """The columns that every table of the sink has."""
    return [
        Column("window", _ID, primary_key=True),
        Column("ordinal", BigInteger, primary_key=True, autoincrement=False),
        Column("revision", Integer, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("window_id", _TEXT, nullable=False),
        Column("task", _TEXT, nullable=False),
        Column("partition", _TEXT, nullable=False),
        Column("key", _TEXT, nullable=False),
        Column("window_start", _TIME),
        Column("window_end", _TIME),
        Column("close_reason", String(32), nullable=False),
        Column("result", _RESULT, nullable=False),
        Column("written_at", _TIME, nullable=False),
    ]


def open_table(
    connection: Connection, name: str, schema: str | None, mapped: Mapping[str, str]
) -> Table:
    """The table as the database has it; made when it is missing.

    Args:
        connection: outside a transaction.
        name: of the table.
        schema: of the table; None for the connection's default.
        mapped: further columns and their types, names of ``MAPPED_TYPES``.

    Raises:
        SinkUnavailableError: the table that is there lacks columns or its unique key.
        DBAPIError: it cannot be made or looked up.
    """
    wanted = wanted_table(name, schema, mapped)
    if not inspect(connection).has_table(name, schema):
        try:
            connection.execute(CreateTable(wanted, if_not_exists=True))
            connection.commit()
        except DBAPIError:
            # Two may make it at once; IF NOT EXISTS does not hold against that everywhere.
            connection.rollback()
            if not inspect(connection).has_table(name, schema):
                raise
    return look_up(connection, wanted)


def wanted_table(name: str, schema: str | None, mapped: Mapping[str, str]) -> Table:
    """The table as it is made; see ``open_table``."""
    return Table(
        name,
        MetaData(),
        *base_columns(),
        *(Column(column, MAPPED_TYPES[type_name]) for column, type_name in mapped.items()),
        schema=schema,
    )


def look_up(connection: Connection, wanted: Table) -> Table:
    """The table, which is there, as the database has it.

    Raises:
        SinkUnavailableError: it lacks columns or its unique key.
    """
    return _checked(inspect(connection), wanted)


def _checked(inspector: Inspector, wanted: Table) -> Table:
    """The table with its mapped columns as they are in the database."""
    name, schema = wanted.name, wanted.schema
    found = {column["name"]: column["type"] for column in inspector.get_columns(name, schema)}
    missing = [column.name for column in wanted.columns if column.name not in found]
    if missing:
        raise SinkUnavailableError(
            f"table {wanted.fullname!r} has no column {', '.join(map(repr, missing))};"
            " add what is missing, or name another table"
        )
    keys = [inspector.get_pk_constraint(name, schema)["constrained_columns"]]
    keys += [unique["column_names"] for unique in inspector.get_unique_constraints(name, schema)]
    keys += [
        [column for column in index["column_names"] if column is not None]
        for index in inspector.get_indexes(name, schema)
        if index["unique"]
    ]
    if not any(set(key) == set(KEY) for key in keys):
        raise SinkUnavailableError(
            f"table {wanted.fullname!r} has no primary key or unique index on"
            f" ({', '.join(KEY)}); add one, or name another table"
        )
    _check_case(found["window"], inspector, wanted)
    base = base_columns()
    names = {column.name for column in base}
    mapped = [column.name for column in wanted.columns if column.name not in names]
    return Table(
        name,
        MetaData(),
        *base,
        *(Column(column, _bound_type(found[column], inspector)) for column in mapped),
        schema=schema,
        info={
            NARROW: _is_narrow(found["ordinal"], inspector),
            LENGTH: _length(found["window"], wanted.fullname),
        },
    )


def window_name(table: Table, name: str) -> str:
    """The name of a window as the table's column ``window`` can hold it."""
    length = table.info[LENGTH]
    return name if length is None else fitted(name, length)


def _length(window: TypeEngine[Any], table: str) -> int | None:
    """How many characters the column takes; where it is too short some databases cut names off.

    Raises:
        SinkUnavailableError: too few to keep windows apart.
    """
    length = getattr(window, "length", None)
    if length is not None and length < SHORTEST:
        raise SinkUnavailableError(
            f"table {table!r}: column 'window' has {length} characters, too few for names of"
            f" windows; give it {MYSQL_ID_LENGTH} (ALTER TABLE)"
        )
    return length


def _check_case(window: TypeEngine[Any], inspector: Inspector, table: Table) -> None:
    """Names that differ in upper and lower case only are of different windows.

    Raises:
        SinkUnavailableError: the column takes them for the same.
    """
    collation = str(getattr(window, "collation", None) or "")
    is_blind = collation.lower().endswith("_ci") or type(window).__name__ == "CITEXT"
    if inspector.dialect.name == "sqlite":
        is_blind = _sqlite_ignores_case(inspector, table)
    if is_blind:
        raise SinkUnavailableError(
            f"table {table.fullname!r}: column 'window' takes upper and lower case for the same"
            f" ({collation or type(window).__name__}), so that results of different windows would"
            " replace each other; give it a binary collation, such as utf8mb4_bin (ALTER TABLE)"
        )


def _sqlite_ignores_case(inspector: Inspector, table: Table) -> bool:
    """SQLAlchemy does not tell collations of SQLite: they are in the statement that made it."""
    with inspector._operation_context() as connection:
        made = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE lower(name) = lower(?)", (table.name,)
        ).scalar()
    return re.search(r"\bwindow\b[^,]*\bCOLLATE\s+[\"'`\[]?NOCASE", made or "", re.I) is not None


def _is_narrow(ordinal: TypeEngine[Any], inspector: Inspector) -> bool:
    """Earlier versions made the column for places in windows; stream sequences grow beyond it."""
    is_wide = isinstance(ordinal, BigInteger) or inspector.dialect.name == "sqlite"
    return isinstance(ordinal, Integer) and not is_wide


def _bound_type(found: TypeEngine[Any], inspector: Inspector) -> TypeEngine[Any]:
    if isinstance(found, JSON):
        return _JSON
    # SQLite's columns take any value, SQLAlchemy's types for them do not.
    return NullType() if inspector.dialect.name == "sqlite" else found
