"""Results as rows of the sql sink's table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sinfer.encoding import from_json
from sinfer.sinks.sql.table import SinkTable
from sinfer.sinks.sql.target import MappedColumn, MessagePart
from sinfer.sinks.sql.values import EPOCH
from sinfer.types.message import Message
from sinfer.types.result import ResultRow, WindowResults


class RowMaker:
    """Makes parameters of the upsert, by the keys of the table's columns.

    Args:
        table: as ``open_table`` returned it.
        columns: mapped columns.
        dialect: SQLAlchemy's name of it.
    """

    def __init__(self, table: SinkTable, columns: Sequence[MappedColumn], dialect: str) -> None:
        self._table = table
        self._of_message = [column for column in columns if column.message is not None]
        self._of_result = [column for column in columns if column.message is None]
        # Only PostgreSQL has times with zones; elsewhere the column holds UTC.
        self._is_zoned = dialect == "postgresql"

    def __call__(self, window: WindowResults, row: ResultRow, now: datetime) -> dict[str, Any]:
        """The row of one result; ``now`` is when it is written, in UTC.

        Raises:
            ValueError: a column cannot take its value; the text names it.
        """
        made = {
            "base_id": self._table.base_id(window.base_id),
            "ordinal": row.ordinal,
            "revision": window.revision,
            "attempt": window.attempt,
            "window_id": window.window_id,
            "task": window.task,
            "source_partition": window.partition,
            "item_key": window.key,
            "window_start": self._time(window.start_ms),
            "window_end": self._time(window.end_ms),
            "close_reason": window.close_reason,
            "result": row.data.decode(),
            "written_at": now if self._is_zoned else now.replace(tzinfo=None),
        }
        if self._of_message:
            message = window.messages.get(row.ordinal)
            for column in self._of_message:
                value = None if message is None else _part(message, column.message)
                made[column.name] = self._converted(column, value)
        if self._of_result:
            result = from_json(row.data)
            fields = result if isinstance(result, dict) else {}
            for column in self._of_result:
                made[column.name] = self._converted(column, fields.get(column.field))
        return made

    def _converted(self, column: MappedColumn, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self._table.converters[column.name](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {column.name!r}: {error}") from None

    def _time(self, ms: int | None) -> datetime | None:
        if ms is None:
            return None
        time = EPOCH + timedelta(milliseconds=ms)
        return time if self._is_zoned else time.replace(tzinfo=None)


def _part(message: Message, part: MessagePart | None) -> int | str:
    match part:
        case "sequence":
            return message.stream_seq
        case "subject":
            return message.subject
        case _:
            return (EPOCH + timedelta(microseconds=message.timestamp_ns // 1_000)).isoformat()
