"""The statements of the sql sink: upserts that never replace newer rows by older ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Delete, Insert
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import JSON, UserDefinedType

from sinfer.encoding import to_json
from sinfer.sinks.sql.columns import KEY
from sinfer.sinks.sql.table import PostgresqlType, SinkTable

Row = dict[str, Any]
"""By the keys of the table's columns."""

_AT_ONCE = 500
"""Windows that one query asks about."""

_MOST_ROWS = 1_000
_MOST_SIZE = 4 * 1024 * 1024
"""Rows of one statement of PostgreSQL, and characters of their results."""


class Upsert:
    """Writes rows; one that is there is replaced unless its (revision, attempt) is higher.

    Attributes:
        target: the table.
        statement: what is executed.
    """

    def __init__(self, table: SinkTable, dialect: str) -> None:
        self.target = table
        self._is_json = dialect == "postgresql"
        self._raw: list[str] = []
        if self._is_json:
            self.statement = _postgresql(table)
            if _is_json(table.types["result"]):
                self._raw = ["result"]
        else:
            self.statement = _UPSERTS[dialect](table.table)

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Write them, in this order."""
        if not self._is_json:
            connection.execute(self.statement, list(rows))
            return
        for some in _pieces(rows):
            encoded = to_json([self._encodable(row) for row in some]).decode()
            connection.execute(self.statement, {"rows": encoded})

    def _encodable(self, row: Row) -> Row:
        return row | {name: msgspec.Raw(row[name].encode()) for name in self._raw}


def _pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Rows of one statement, which has a time-out and takes memory."""
    start = size = 0
    for at, row in enumerate(rows):
        size += len(row["result"])
        if at > start and (at - start >= _MOST_ROWS or size > _MOST_SIZE):
            yield rows[start:at]
            start, size = at, len(row["result"])
    yield rows[start:]


def drop_older(connection: Connection, table: Table, newest: Mapping[str, int]) -> None:
    """Delete what older revisions left of windows: a later revision may have fewer results.

    Args:
        connection: in a transaction.
        table: where.
        newest: windows by their base ids, and the revision below which they have no rows;
            where a higher one is stored, that.
    """
    id_, revision = table.c.base_id, table.c.revision
    names = sorted(newest)
    stale: list[dict[str, Any]] = []
    for at in range(0, len(names), _AT_ONCE):
        stored = (
            select(id_, func.min(revision), func.max(revision))
            .where(id_.in_(names[at : at + _AT_ONCE]))
            .group_by(id_)
        )
        for name, lowest, highest in connection.execute(stored):
            if lowest < (below := max(newest.get(name, 0), highest)):
                stale.append({"name": name, "below": below})
    if stale:
        stale.sort(key=lambda window: str(window["name"]))
        connection.execute(delete_older(table), stale)


def delete_older(table: Table) -> Delete:
    """Delete the rows of window ``:name`` that are of revisions below ``:below``."""
    return delete(table).where(
        table.c.base_id == bindparam("name"), table.c.revision < bindparam("below")
    )


def _replaced(table: Table) -> list[str]:
    return [column.key for column in table.columns if column.key not in KEY]


class _Spelled(UserDefinedType[Any]):
    """A type as PostgreSQL writes it."""

    cache_ok = True

    def __init__(self, spelled: str) -> None:
        self.spelled = spelled

    def get_col_spec(self, **_: Any) -> str:
        return self.spelled


def _spelled(name: str, type_: str) -> ColumnClause[Any]:
    return column(quoted_name(name, quote=True), _Spelled(type_))


def _postgresql(target: SinkTable) -> Insert:
    """Takes all rows as one JSON value, of which PostgreSQL itself makes what its columns hold.

    So that it is one statement with one parameter, whatever the number of rows: nothing has to be
    prepared, which poolers do not keep.
    """
    table = target.table
    keys = [column.key for column in table.columns]
    spelled = [_spelled(key, _read_as(target.types[key])) for key in keys]
    rows = (
        func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON))
        .table_valued(*spelled)
        .render_derived(name="r", with_types=True)
    )
    values = [_value(key, rows.c[key], target.types[key]) for key in keys]
    insert = postgresql.insert(table)
    new = insert.excluded
    return insert.from_select(keys, select(*values), include_defaults=False).on_conflict_do_update(
        index_elements=[table.c[key] for key in KEY],
        set_={key: new[key] for key in _replaced(table)},
        where=tuple_(new.revision, new.attempt) >= tuple_(table.c.revision, table.c.attempt),
    )


def _is_json(type_: PostgresqlType) -> bool:
    return type_.base in ("json", "jsonb")


def _is_time(type_: PostgresqlType) -> bool:
    return type_.base == "date" or type_.base.endswith("without time zone")


def _read_as(type_: PostgresqlType) -> str:
    """Types without a zone would drop what a text says of it."""
    if not _is_time(type_):
        return type_.name
    return "time with time zone" if type_.base[:5] == "time " else "timestamp with time zone"


def _value(key: str, value: ColumnElement[Any], type_: PostgresqlType) -> ColumnElement[Any]:
    if key == "result" and _is_json(type_):  # a null of JSON is none of SQL
        return func.coalesce(value, literal_column("'null'"))
    return func.timezone("UTC", value) if _is_time(type_) else value


def _sqlite(table: Table) -> Insert:
    insert = sqlite.insert(table)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=[table.c[key] for key in KEY],
        set_={key: new[key] for key in _replaced(table)},
        where=tuple_(new.revision, new.attempt) >= tuple_(table.c.revision, table.c.attempt),
    )


def _mysql(table: Table) -> Insert:
    insert = mysql.insert(table)
    new, old = insert.inserted, table.c
    is_newer: ColumnElement[bool] = or_(
        new.revision > old.revision,
        (new.revision == old.revision) & (new.attempt >= old.attempt),
    )
    # There is no WHERE, and assignments see those before them: what the condition reads comes last.
    keys = [key for key in _replaced(table) if key not in ("revision", "attempt")]
    return insert.on_duplicate_key_update(
        [(key, func.if_(is_newer, new[key], old[key])) for key in [*keys, "attempt", "revision"]]
    )


_UPSERTS: dict[str, Callable[[Table], Insert]] = {
    "sqlite": _sqlite,
    "mysql": _mysql,
    "mariadb": _mysql,
}
