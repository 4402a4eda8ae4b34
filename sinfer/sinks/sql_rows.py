"""Results as rows of the sql sink's table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Table

from sinfer.encoding import from_json, to_json
from sinfer.results import ResultRow, WindowResults
from sinfer.sinks.sql_table import window_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RowMaker:
    """Makes parameters of the upsert.

    Args:
        table: as ``open_table`` returned it.
        columns: mapped columns: name, field of the result, type.
        dialect: SQLAlchemy's name of it.
    """

    def __init__(
        self, table: Table, columns: tuple[tuple[str, str, str], ...], dialect: str
    ) -> None:
        self._table = table
        self._mapped: list[tuple[str, str, Callable[[Any], Any]]] = [
            (name, field, _json if isinstance(table.c[name].type, JSON) else _plain)
            for name, field, _ in columns
        ]
        # Only PostgreSQL has times with zones; elsewhere the column holds UTC.
        self._is_zoned = dialect == "postgresql"

    def __call__(self, window: WindowResults, row: ResultRow, now: datetime) -> dict[str, Any]:
        """The row of one result; ``now`` is when it is written, in UTC."""
        made = {
            "window": window_name(self._table, window.base_id),
            "ordinal": row.ordinal,
            "revision": window.revision,
            "attempt": window.attempt,
            "window_id": window.window_id,
            "task": window.task,
            "partition": window.partition,
            "key": window.key,
            "window_start": self._time(window.start_ms),
            "window_end": self._time(window.end_ms),
            "close_reason": window.close_reason,
            "result": row.data.decode(),
            "written_at": now if self._is_zoned else now.replace(tzinfo=None),
        }
        if self._mapped:
            result = from_json(row.data)
            fields = result if isinstance(result, dict) else {}
            for name, field, convert in self._mapped:
                value = fields.get(field)
                made[name] = None if value is None else convert(value)
        return made

    def _time(self, ms: int | None) -> datetime | None:
        if ms is None:
            return None
        time = _EPOCH + timedelta(milliseconds=ms)
        return time if self._is_zoned else time.replace(tzinfo=None)


def _json(value: Any) -> str:
    return to_json(value).decode()


def _plain(value: Any) -> Any:
    """Lists and objects are kept as JSON where the column holds none."""
    return _json(value) if isinstance(value, list | dict) else value
