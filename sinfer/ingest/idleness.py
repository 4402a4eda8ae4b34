"""When nothing comes any more: windows that an idle source, or the clock alone, closes."""

from __future__ import annotations

import math
import time

from sinfer.clock import Clock
from sinfer.config.units import to_ms
from sinfer.ingest.windower import Windower
from sinfer.source.source import Source
from sinfer.windows.specs import WindowSpec

_NOT_IDLE_S = 0.5
"""How long after a source turned out not to be idle that is asked again."""


class Idleness:
    """Whether the source of a partition is idle, as the task's ``window.idle`` has it.

    Args:
        spec: the windows of the task.
        clock: the store's clock.
        waited_for: whether windows of other partitions wait for this one.
    """

    def __init__(self, spec: WindowSpec, clock: Clock, *, waited_for: bool) -> None:
        self._spec = spec
        self._clock = clock
        self._waited_for = waited_for
        self._by_the_clock = spec.type == "sliding" and spec.time == "processing"
        self._idle_at_s = 0.0
        self._is_idle = False
        self.is_possible = spec.idle is not None or self._by_the_clock
        """Whether a source on which nothing comes lets windows close."""

    def interrupt(self, ask_again_s: float | None = None) -> None:
        """The source is not idle: ask again when nothing has come for long enough."""
        idle = self._spec.idle
        if idle is not None:
            self._is_idle = False
            wait_s = idle.total_seconds() if ask_again_s is None else ask_again_s
            self._idle_at_s = time.monotonic() + wait_s

    def wait_s(self, windower: Windower) -> float:
        """How long nothing is to be done if nothing comes, seconds; infinite where nothing is."""
        wait_s = math.inf
        if self._by_the_clock:
            deadline_ms = windower.planner.next_deadline_ms
            if deadline_ms is not None:
                wait_s = (deadline_ms - self._clock.now_ms()) / 1000
        if self._spec.idle is not None and not self._is_idle:
            wait_s = min(wait_s, self._idle_at_s - time.monotonic())
        return wait_s

    async def look(self, windower: Windower, source: Source) -> None:
        """Nothing came: close what an idle source or the clock alone closes."""
        if self._by_the_clock:
            await windower.advance()
        idle = self._spec.idle
        if idle is None or self._is_idle or time.monotonic() < self._idle_at_s:
            return
        if await source.caught_up():
            await windower.close_all("idle", idle=self._waited_for)
            self._is_idle = True
        else:
            self.interrupt(min(_NOT_IDLE_S, to_ms(idle) / 1000))
