"""Storing the commits of a partition, however long Redis is away, and what follows from each."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from sinfer.clock import SystemClock
from sinfer.errors import StoreFullError, UnavailableError, WindowConflictError
from sinfer.hints import HintSender
from sinfer.windows.schedule import Schedule
from sinfer.windows.writer import Commit, Committed, PartitionWriter

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
"""Pause before a commit is repeated that Redis did not answer."""


class Storing:
    """Stores commits, tells the workers of windows that are ready, and beat when something is due.

    Args:
        writer: writes the partition.
        clock: follows Redis' clock by what commits say.
        hints: who tells the workers.
        schedule: who tells beat.
        stopping: set when a commit is not to be tried again.

    Attributes:
        pending: windows that were closed and not done, after the last commit.
        renewed_s: when the writer's lease was last renewed, by the monotonic clock.
    """

    def __init__(
        self,
        writer: PartitionWriter,
        clock: SystemClock,
        hints: HintSender,
        schedule: Schedule,
        stopping: asyncio.Event,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._hints = hints
        self._schedule = schedule
        self._stopping = stopping
        self._announced_ms = 0
        self.pending = 0
        self.renewed_s = 0.0

    async def store(self, commit: Commit, *, settings: Mapping[str, str] | None = None) -> None:
        """Commit until Redis has said yes or no, and pass on what it says is to do.

        Raises:
            WindowConflictError: windows of the plan are not open any more; plan again.
            StaleTokenError, PositionError: somebody else writes the partition by now.
            UnavailableError, StoreFullError: not stored, and told to stop.
        """
        scope = self._writer.scope
        complained = False
        while True:
            try:
                committed = await self._writer.commit(commit, settings=dict(settings or {}))
                break
            except WindowConflictError as conflict:
                self._clock.follow(conflict.now_ms)
                raise
            except (UnavailableError, StoreFullError) as error:
                if not complained:
                    _log.warning("%s: waiting to store a batch: %s", scope, error)
                complained = True
                if self._stopping.is_set():
                    raise
                await asyncio.sleep(_RETRY_S)
        if complained:
            _log.info("%s: storing again", scope)
        self.renewed_s = time.monotonic()
        self._clock.follow(committed.now_ms)
        self.pending = committed.pending
        self._hints.send(scope, committed.hint)
        await self._announce(committed)

    async def _announce(self, committed: Committed) -> None:
        """Have beat look at the partition when something is due, unless it will anyway."""
        due_ms = committed.next_due_ms
        if due_ms and (due_ms < self._announced_ms or self._announced_ms <= committed.now_ms):
            try:
                wait_ms = due_ms - committed.now_ms
                await self._schedule.announce(self._writer.scope, wait_ms)
            except (UnavailableError, StoreFullError) as error:
                _log.warning("%s: beat will find out by itself: %s", self._writer.scope, error)
            else:
                self._announced_ms = due_ms
