"""How long the calls of a task take: told to ingestors, which close windows in time for them."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sinfer.errors import StoreError, UnavailableError
from sinfer.store.boards.latency_curves import LatencyCurves
from sinfer.windows.latency_curve import CallSums, LatencyCurve

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_TELL_S = 0.25
"""How often it is told."""

_NAME_S = 60.0
"""How often it is told which endpoint the task calls."""


class CallLatency:
    """Notes the calls of one task in one process.

    Args:
        store: Redis.
        product, task: the task.
        endpoint: that it calls.
    """

    def __init__(self, store: Store, product: str, task: str, endpoint: str) -> None:
        self._curves = LatencyCurves(store)
        self._product, self._task, self._endpoint = product, task, endpoint
        self._calls: list[tuple[int, float]] = []
        self._curve: LatencyCurve | None = None
        self._told_s = self._named_s = float("-inf")

    async def note(self, items: int, took_s: float) -> None:
        """A call about so many items was answered after so long, seconds."""
        self._calls.append((items, took_s * 1000))
        now_s = time.monotonic()
        if now_s - self._told_s < _TELL_S:
            return
        self._told_s = now_s
        calls, self._calls = self._calls, []
        try:
            if now_s - self._named_s >= _NAME_S:
                await self._curves.note_endpoint(self._product, self._task, self._endpoint)
                self._named_s = now_s
            sums = await self._curves.note(self._endpoint, CallSums.of(calls, self._curve))
        except (UnavailableError, StoreError) as error:
            _log.debug(
                "%s/%s: how long calls take is not noted: %s", self._product, self._task, error
            )
        else:
            self._curve = LatencyCurve.fitted(sums)
