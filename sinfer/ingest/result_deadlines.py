"""Closing windows in time for their results: as the task's ``window.deadline`` has it."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from sinfer.clock import Clock
from sinfer.errors import StoreError, UnavailableError
from sinfer.ingest.windower import Windower
from sinfer.store.boards.latency_curves import LatencyCurves
from sinfer.windows.ids import Scope
from sinfer.windows.latency_curve import LatencyCurve
from sinfer.windows.specs import WindowSpec

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_REFRESH_S = 1.0
"""How often it is asked how long calls take."""


class ResultDeadlines:
    """Whether windows of a partition are due, so that their results come in time.

    Args:
        spec: the windows of the task.
        scope: the partition.
        store: where workers say how long calls take.
        clock: the store's clock.

    Attributes:
        is_possible: whether the task has a deadline.
    """

    def __init__(self, spec: WindowSpec, scope: Scope, store: Store, clock: Clock) -> None:
        self.is_possible = spec.deadline is not None
        self._scope = scope
        self._curves = LatencyCurves(store)
        self._clock = clock
        self._asked_s = float("-inf")

    def wait_s(self, windower: Windower) -> float:
        """How long nothing is to be done if nothing comes, seconds; infinite where nothing is."""
        wait_ms = windower.planner.closes_in_ms(self._clock.now_ms())
        return math.inf if wait_ms is None else wait_ms / 1000

    async def look(self, windower: Windower) -> None:
        """Close what is due."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= _REFRESH_S:
            self._asked_s = now_s
            await self._refresh(windower)
        if self.wait_s(windower) <= 0:
            await windower.advance()

    async def _refresh(self, windower: Windower) -> None:
        try:
            sums = await self._curves.of_task(self._scope.product, self._scope.task)
        except (UnavailableError, StoreError) as error:
            _log.debug("%s: how long calls take is not known: %s", self._scope, error)
        else:
            windower.planner.curve = LatencyCurve.fitted(sums)
