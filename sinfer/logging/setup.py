"""Log lines of all sinfer processes: as text or JSON, with passwords masked."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from sinfer.logging.masking import mask

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z INFO sinfer.ingest: text``, in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return _utc(record)

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what ``extra=`` adds."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                fields[name] = mask(value) if isinstance(value, str) else value
        if record.exc_info:
            fields["exception"] = mask(self.formatException(record.exc_info))
        return json.dumps(fields, default=lambda value: mask(str(value)), ensure_ascii=False)


def _utc(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LeaveOut(logging.Filter):
    """Drops what Celery tells at INFO about tasks of one name, twice for each.

    Args:
        task: the name.
    """

    def __init__(self, task: str) -> None:
        super().__init__()
        self._task = task

    def filter(self, record: logging.LogRecord) -> bool:
        told = getattr(record, "data", None)
        is_about = isinstance(told, dict) and told.get("name") == self._task
        return not (is_about and record.levelno <= logging.INFO)


def set_up_logging(
    level: str = "INFO",
    form: Literal["text", "json"] = "text",
    *,
    leave_out: logging.Filter | None = None,
) -> None:
    """Send the process's log to stderr, instead of wherever it went before.

    Args:
        level: the least severe level that is written, as in ``SINFER_LOG_LEVEL``.
        form: how lines are written, as in ``SINFER_LOG_FORMAT``.
        leave_out: what is not written at this level; at DEBUG all is.
    """
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[target], force=True)
    if leave_out is not None and logging.getLogger().level > logging.DEBUG:
        target.addFilter(leave_out)
    for chatty in ("httpx", "httpcore"):  # one INFO line for each request
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
