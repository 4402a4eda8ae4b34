"""The log sink: results in the log of the process, for a first look at a task."""

from __future__ import annotations

import logging
from typing import Any, Literal

from pydantic import Field

from sinfer.config.units import unit
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.result import WindowResults

_log = logging.getLogger(__name__)


class LogSink(Sink):
    """Logs results at INFO. A window that is written again is logged again."""

    type = "log"

    class Config(SinkConfig):
        """Settings of the log sink."""

        type: Literal["log"] = "log"
        limit: int = Field(default=10, ge=0, json_schema_extra=unit("results"))
        """Results of a window that are logged; the others are only counted."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._limit: int = config.limit

    async def write(self, results: WindowResults) -> None:
        for row in results.rows[: self._limit]:
            _log.info("%s %s", results.idempotency_key(row), row.data.decode())
        if (hidden := len(results) - self._limit) > 0:
            _log.info("%s and %d more", results.window_id, hidden)
