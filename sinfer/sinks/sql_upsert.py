"""The statements of the sql sink: upserts that never replace newer rows by older ones."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import ColumnElement, Table, bindparam, delete, func, or_, select, tuple_
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Delete, Insert

from sinfer.sinks.sql_table import KEY


def upsert(table: Table, dialect: str) -> Insert:
    """Insert rows; one that is there is replaced unless its (revision, attempt) is higher."""
    return _UPSERTS[dialect](table)


def drop_older(table: Table) -> Delete:
    """Delete what older revisions left of window ``:base``: those below ``:newest`` or the stored.

    A later revision may have fewer results.
    """
    in_window = table.c.window == bindparam("base")
    # A table of its own, because MySQL does not read the one that it deletes from.
    stored = select(func.max(table.c.revision).label("newest")).where(in_window).subquery()
    return delete(table).where(
        in_window,
        or_(
            table.c.revision < bindparam("newest"),
            table.c.revision < select(stored.c.newest).scalar_subquery(),
        ),
    )


def _replaced(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name not in KEY]


def _postgresql(table: Table) -> Insert:
    insert = postgresql.insert(table)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=list(KEY),
        set_={name: new[name] for name in _replaced(table)},
        where=tuple_(new.revision, new.attempt) >= tuple_(table.c.revision, table.c.attempt),
    )


def _sqlite(table: Table) -> Insert:
    insert = sqlite.insert(table)
    new = insert.excluded
    return insert.on_conflict_do_update(
        index_elements=list(KEY),
        set_={name: new[name] for name in _replaced(table)},
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
    names = [name for name in _replaced(table) if name not in ("revision", "attempt")]
    return insert.on_duplicate_key_update(
        [
            (name, func.if_(is_newer, new[name], old[name]))
            for name in [*names, "attempt", "revision"]
        ]
    )


_UPSERTS: dict[str, Callable[[Table], Insert]] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
    "mysql": _mysql,
    "mariadb": _mysql,
}
