"""The table of the sql sink: made when it is missing, checked when it is there."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    inspect,
    text,
)
from sqlalchemy.engine import Inspector
from sqlalchemy.exc import DBAPIError, SAWarning
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import NullType, TypeEngine

from sinfer.errors import SinkUnavailableError
from sinfer.sinks.name_length import SHORTEST, fitted
from sinfer.sinks.sql.columns import EARLIER_NAMES, MYSQL_ID_LENGTH, base_columns, mapped_columns
from sinfer.sinks.sql.target import MappedColumn
from sinfer.sinks.sql.values import (
    Converter,
    mysql_converter,
    postgresql_converter,
    sqlite_converter,
)

MOST_NARROW = 2**31 - 1
"""The highest ordinal in tables of early versions."""

_MYSQL_OPTIONS = {
    "charset": "utf8mb4", "collate": "utf8mb4_bin", "engine": "InnoDB", "row_format": "DYNAMIC",
}  # fmt: skip
"""Servers may have other defaults: without emoji, transactions, or room for the key."""

_JSON_CHECK = re.compile(r"json_valid\(([`\"])(.+?)\1\)", re.IGNORECASE)

_POSTGRESQL_TYPES = text(
    "SELECT a.attname, format_type(a.atttypid, -1),"
    " format_type(COALESCE(NULLIF(t.typbasetype, 0), a.atttypid), -1)"
    " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    " WHERE a.attrelid = to_regclass(:name) AND a.attnum > 0 AND NOT a.attisdropped"
)


_MYSQL_COLLATION = text(
    "SELECT collation_name FROM information_schema.columns"
    " WHERE table_schema = COALESCE(:schema, DATABASE())"
    " AND table_name = :table AND column_name = :column"
)


@dataclass(frozen=True)
class PostgresqlType:
    """The type of a column, as ``format_type`` writes it, without length or precision.

    Attributes:
        name: of the type.
        base: of a domain what it is made of; else the same.
    """

    name: str
    base: str


@dataclass(frozen=True)
class SinkTable:
    """The table as the database has it.

    Attributes:
        table: its columns have the keys of ``base_columns`` and the names of mapped columns,
            whatever they are called in the database.
        id_length: how many characters the column of base ids takes; None for any number.
        is_narrow: whether its ordinals end at ``MOST_NARROW``.
        converters: of mapped columns, by key.
        types: of all columns, by key; on PostgreSQL alone.
    """

    table: Table
    id_length: int | None
    is_narrow: bool
    converters: Mapping[str, Converter]
    types: Mapping[str, PostgresqlType] = field(default_factory=dict)

    def base_id(self, name: str) -> str:
        """A base id as the column can hold it."""
        return name if self.id_length is None else fitted(name, self.id_length)


def open_table(
    connection: Connection, name: str, schema: str | None, mapped: Sequence[MappedColumn]
) -> SinkTable:
    """The table as the database has it; made when it is missing.

    Args:
        connection: outside a transaction.
        name: of the table.
        schema: of the table; None for the connection's default.
        mapped: further columns.

    Raises:
        SinkUnavailableError: the table that is there lacks columns or its unique key.
        DBAPIError: it cannot be made or looked up.
    """
    if not inspect(connection).has_table(name, schema):
        wanted = wanted_table(name, schema, mapped)
        try:
            connection.execute(CreateTable(wanted, if_not_exists=True))
            connection.commit()
        except DBAPIError:
            # Two may make it at once; IF NOT EXISTS does not hold against that everywhere.
            connection.rollback()
            if not inspect(connection).has_table(name, schema):
                raise
    return look_up(connection, name, schema, mapped)


def wanted_table(name: str, schema: str | None, mapped: Sequence[MappedColumn]) -> Table:
    """The table as it is made; see ``open_table``."""
    options: dict[str, Any] = {
        f"{dialect}_{option}": value
        for dialect in ("mysql", "mariadb")
        for option, value in _MYSQL_OPTIONS.items()
    }
    columns = [*base_columns(), *mapped_columns(mapped)]
    return Table(_quoted(name), MetaData(), *columns, schema=schema and _quoted(schema), **options)


def look_up(
    connection: Connection, name: str, schema: str | None, mapped: Sequence[MappedColumn]
) -> SinkTable:
    """The table, which is there, as the database has it; see ``open_table``.

    Raises:
        SinkUnavailableError: it lacks columns or its unique key.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # types that SQLAlchemy does not know
        return _Found(connection, _quoted(name), schema and _quoted(schema)).checked(mapped)


def _quoted(name: str) -> quoted_name:
    return quoted_name(name, quote=True)


class _Found:
    """A table that is there."""

    def __init__(self, connection: Connection, name: str, schema: str | None) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name
        self._inspector: Inspector = inspect(connection)
        self._name, self._schema = name, schema
        self._full_name = name if schema is None else f"{schema}.{name}"
        columns = self._inspector.get_columns(name, schema)
        self._types = {column["name"]: column["type"] for column in columns}
        # Only PostgreSQL has columns whose names differ in case alone.
        self._spelled = {self._same(spelled): spelled for spelled in self._types}

    def _same(self, name: str) -> str:
        return name if self._dialect == "postgresql" else name.lower()

    def checked(self, mapped: Sequence[MappedColumn]) -> SinkTable:
        """As the sink uses it.

        Raises:
            SinkUnavailableError: it cannot.
        """
        base = base_columns(is_earlier=self._is_earlier())
        self._check_columns(base, mapped)
        self._check_key([base[0].name, base[1].name])
        id_type = self._type_of(base[0].name)
        self._check_case(base[0].name, id_type)
        further = [
            Column(
                _quoted(self._spelled[self._same(column.name)]),
                NullType(),
                key=column.name,
            )
            for column in mapped
        ]
        table = Table(self._name, MetaData(), *base, *further, schema=self._schema)
        types = self._postgresql_types(table) if self._dialect == "postgresql" else {}
        return SinkTable(
            table,
            self._id_length(base[0].name, id_type),
            self._is_narrow(self._type_of(base[1].name)),
            self._converters(further, types),
            types,
        )

    def _is_earlier(self) -> bool:
        """Whether an earlier version made it, with other names for some columns."""
        now, then = EARLIER_NAMES.keys(), EARLIER_NAMES.values()
        return not any(name in self._spelled for name in now) and all(
            name in self._spelled for name in then
        )

    def _type_of(self, name: str) -> TypeEngine[Any]:
        return self._types[self._spelled[self._same(name)]]

    def _check_columns(self, base: list[Column[Any]], mapped: Sequence[MappedColumn]) -> None:
        own = {self._same(column.name) for column in base}
        for column in mapped:
            if self._same(column.name) in own:
                raise SinkUnavailableError(
                    f"table {self._full_name!r}: {column.name!r} is a column of the sink itself"
                    " there; map another one, or name another table"
                )
        names = [*(column.name for column in base), *(column.name for column in mapped)]
        missing = [name for name in names if self._same(name) not in self._spelled]
        if missing:
            raise SinkUnavailableError(
                f"table {self._full_name!r} has no column {', '.join(map(repr, missing))};"
                " add what is missing, or name another table"
            )

    def _check_key(self, key: list[str]) -> None:
        """An index on part of the rows, on expressions or on beginnings of texts is no such key."""
        name, schema = self._name, self._schema
        keys = [self._inspector.get_pk_constraint(name, schema)["constrained_columns"]]
        by_index = set()
        for index in self._inspector.get_indexes(name, schema):
            options = index.get("dialect_options", {})
            is_partial = any("where" in option or "length" in option for option in options)
            if index["unique"] and not is_partial:
                keys.append([column or "" for column in index["column_names"]])
            elif index["unique"]:
                by_index.add(index["name"])
        keys += [
            unique["column_names"]
            for unique in self._inspector.get_unique_constraints(name, schema)
            if unique["name"] not in by_index
        ]
        wanted = {self._same(column) for column in key}
        if not any(
            len(found) == len(key) and {self._same(column) for column in found} == wanted
            for found in keys
        ):
            raise SinkUnavailableError(
                f"table {self._full_name!r} has no primary key or unique index on"
                f" ({', '.join(key)}), of all rows and whole values; add one, or name another table"
            )

    def _check_case(self, name: str, type_: TypeEngine[Any]) -> None:
        """Names that differ in upper and lower case only are of different windows.

        Raises:
            SinkUnavailableError: the column takes them for the same.
        """
        collation = ""
        if self._dialect == "sqlite":
            is_blind = self._sqlite_ignores_case(name)
        elif self._dialect == "postgresql":
            is_blind = type(type_).__name__ == "CITEXT"
        else:
            collation = self._mysql_collation(name)
            is_blind = collation.lower().endswith("_ci")
        if is_blind:
            raise SinkUnavailableError(
                f"table {self._full_name!r}: column {name!r} takes upper and lower case for the"
                f" same ({collation or type(type_).__name__}), so that results of different windows"
                " would replace each other; give it a binary collation, such as utf8mb4_bin"
                " (ALTER TABLE)"
            )

    def _sqlite_ignores_case(self, name: str) -> bool:
        """SQLAlchemy does not tell collations of SQLite: they are in what made the table."""
        made = self._connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE lower(name) = lower(?)", (str(self._name),)
        ).scalar()
        pattern = rf"\b{re.escape(name)}\b[^,]*\bCOLLATE\s+[\"'`\[]?NOCASE"
        return re.search(pattern, made or "", re.IGNORECASE) is not None

    def _mysql_collation(self, name: str) -> str:
        """Also one that the column has from its table, which SQLAlchemy does not tell."""
        found = self._connection.execute(
            _MYSQL_COLLATION, {"schema": self._schema, "table": str(self._name), "column": name}
        )
        return str(found.scalar() or "")

    def _id_length(self, name: str, type_: TypeEngine[Any]) -> int | None:
        """How many characters it takes; where it is too short some databases cut names off.

        Raises:
            SinkUnavailableError: too few to keep windows apart.
        """
        length: int | None = getattr(type_, "length", None)
        if length is not None and length < SHORTEST:
            raise SinkUnavailableError(
                f"table {self._full_name!r}: column {name!r} has {length} characters, too few for"
                f" names of windows; give it {MYSQL_ID_LENGTH} (ALTER TABLE)"
            )
        return length

    def _is_narrow(self, ordinal: TypeEngine[Any]) -> bool:
        """Early versions made the column for places in windows; stream sequences grow beyond."""
        is_wide = isinstance(ordinal, BigInteger) or self._dialect == "sqlite"
        return isinstance(ordinal, Integer) and not is_wide

    def _postgresql_types(self, table: Table) -> dict[str, PostgresqlType]:
        full_name = self._connection.dialect.identifier_preparer.format_table(table)
        found = self._connection.execute(_POSTGRESQL_TYPES, {"name": full_name})
        types = {column: PostgresqlType(name, base) for column, name, base in found}
        return {column.key: types[column.name] for column in table.columns}

    def _converters(
        self, columns: list[Column[Any]], types: Mapping[str, PostgresqlType]
    ) -> dict[str, Converter]:
        if not columns:
            return {}
        if self._dialect == "postgresql":
            return {c.key: postgresql_converter(types[c.key].base) for c in columns}
        if self._dialect == "sqlite":
            declared = self._sqlite_types()
            return {c.key: sqlite_converter(declared[c.name]) for c in columns}
        json_columns = self._mysql_json_columns()
        return {
            c.key: mysql_converter(self._types[c.name], is_json=c.name in json_columns)
            for c in columns
        }

    def _sqlite_types(self) -> dict[str, str]:
        """As they were declared: SQLAlchemy makes of them what it knows."""
        query = text("SELECT name, type FROM pragma_table_info(:table)")
        found = self._connection.execute(query, {"table": str(self._name)})
        return {name: str(declared) for name, declared in found}

    def _mysql_json_columns(self) -> set[str]:
        """MariaDB's JSON is a text with a check."""
        table = Table(self._name, MetaData(), schema=self._schema)
        full_name = self._connection.dialect.identifier_preparer.format_table(table)
        made = self._connection.exec_driver_sql(f"SHOW CREATE TABLE {full_name}").one()[1]
        return {name for _, name in _JSON_CHECK.findall(made)}
