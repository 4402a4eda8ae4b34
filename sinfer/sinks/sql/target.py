"""What the sql sink writes to: a table, and the columns that take parts of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

MessagePart = Literal["sequence", "time", "subject"]


class MappedColumn(NamedTuple):
    """A further column of the table.

    Attributes:
        name: of the column.
        field: the field of the result that it takes; None where it takes a part of the message.
        message: the part of the message.
        type: of the column when sinfer makes the table; see ``MAPPED_TYPES``.
    """

    name: str
    field: str | None
    message: MessagePart | None
    type: str


@dataclass(frozen=True)
class SqlTarget:
    """A table of a database; equal targets share a writer.

    Attributes:
        url: of the database, secrets included.
        table: its name.
        schema: of the table; None for the connection's.
        columns: further columns.
        timeout_s: longest wait for a connection, for a lock, and for one statement.
    """

    url: str
    table: str
    schema: str | None
    columns: tuple[MappedColumn, ...]
    timeout_s: float

    def __repr__(self) -> str:
        return f"<SqlTarget {self.table}>"
