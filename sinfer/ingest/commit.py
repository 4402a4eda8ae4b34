"""Storing the commits of a partition, whatever happens to Redis, and what follows from each."""

from __future__ import annotations

import asyncio
import logging
import time

from sinfer.clock import SystemClock
from sinfer.errors import (
    CommitRefusedError,
    PositionError,
    StaleTokenError,
    StoreError,
    StoreFullError,
    UnavailableError,
    WindowConflictError,
)
from sinfer.hooks.call import describe
from sinfer.logging.troubles import PartitionTroubles
from sinfer.store.hints import Hints
from sinfer.store.partition.batch_commit import Commit, Committed
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.redis_errors import connection_was_lost
from sinfer.store.schedule import Schedule

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
"""Pause before a commit is repeated that Redis did not answer."""

_MOST_BROKEN_OFF = 3
_LARGE_BYTES = 1024 * 1024
"""Redis' limits for what is sent to it cannot be set to less."""


def _size(commit: Commit) -> int:
    """The payload of a commit, in bytes."""
    stored = sum(len(one.data) for append in commit.plan.appends for one in append.messages)
    return stored + sum(len(letter.message.data) for letter in commit.dead)


class Storing:
    """Stores commits, tells the workers of windows that are ready, and beat when something is due.

    Args:
        writer: writes the partition.
        clock: follows Redis' clock by what commits say.
        hints: who tells the workers.
        schedule: who tells beat.
        stopping: set when a commit is not to be tried again.
        troubles: those of the partition.

    Attributes:
        stopping: see above.
        pending: windows that were closed and not done, after the last commit.
        renewed_s: when the writer's lease was last renewed, by the monotonic clock.
    """

    def __init__(
        self,
        writer: PartitionWriter,
        clock: SystemClock,
        hints: Hints,
        schedule: Schedule,
        stopping: asyncio.Event,
        troubles: PartitionTroubles,
    ) -> None:
        self._troubles = troubles
        self._writer = writer
        self._clock = clock
        self._hints = hints
        self._schedule = schedule
        self.stopping = stopping
        self._announced_ms = 0
        self._is_waiting = False
        self.pending = 0
        self.renewed_s = 0.0

    async def store(self, commit: Commit, *, settings: PartitionSettings | None = None) -> None:
        """Commit until Redis has said yes or no, and pass on what it says is to do.

        Raises:
            WindowConflictError: windows of the plan are not open any more; plan again.
            StaleTokenError, PositionError: somebody else writes the partition.
            CommitRefusedError: it cannot be stored, however often it is tried.
            UnavailableError, StoreFullError: not stored, and told to stop.
        """
        broken_off = 0
        while True:
            before = self._writer.commits
            try:
                committed = await self._writer.commit(commit, settings=settings)
                break
            except WindowConflictError as conflict:
                self._clock.follow(conflict.now_ms)
                raise
            except (UnavailableError, StoreFullError) as error:
                self._is_waiting = True
                self._troubles.tell("storing", f"waiting to store a batch: {error}")
                if self.stopping.is_set():
                    raise
                broken_off += await self._is_broken_off(commit, error)
                if broken_off >= _MOST_BROKEN_OFF:
                    raise CommitRefusedError(
                        f"Redis answers, but breaks the connection off whenever these"
                        f" {_size(commit)} bytes are sent: are they above its proto-max-bulk-len"
                        " or client-query-buffer-limit?",
                        by_store=True,
                    ) from error
                await asyncio.sleep(_RETRY_S)
            except (StaleTokenError, PositionError, asyncio.CancelledError):
                raise
            except Exception as error:  # what cannot be encoded is refused by the encoder's errors
                if self._writer.commits != before:
                    raise  # it is stored, whatever came afterwards
                by_store = isinstance(error, StoreError)
                raise CommitRefusedError(describe(error), by_store=by_store) from error
        await self._follow(committed)

    async def _follow(self, committed: Committed) -> None:
        """It is stored: do what the store says is to do."""
        scope = self._writer.scope
        if self._is_waiting:
            self._is_waiting = False
            self._troubles.over("storing", "storing again")
        if committed.lost:
            _log.error(
                "%s: %d chunks of open windows are gone from Redis; the windows are set aside when"
                " they close; sinfer audit names them", scope, committed.lost,
            )  # fmt: skip
        self.renewed_s = time.monotonic()
        self._clock.follow(committed.now_ms)
        self.pending = committed.pending
        if committed.hint:
            self._hints.send(scope, committed.hint)
        if committed.next_due_ms:
            await self._announce(committed)

    async def _is_broken_off(self, commit: Commit, error: Exception) -> bool:
        """Whether Redis is there, and ended the connection over which something large was sent."""
        if not connection_was_lost(error) or _size(commit) < _LARGE_BYTES:
            return False
        return await self._writer.store_answers()

    async def _announce(self, committed: Committed) -> None:
        """Have beat look at the partition when something is due, unless it will anyway."""
        due_ms = committed.next_due_ms
        if due_ms < self._announced_ms or self._announced_ms <= committed.now_ms:
            try:
                wait_ms = due_ms - committed.now_ms
                await self._schedule.announce(self._writer.scope, wait_ms)
            except (UnavailableError, StoreError) as error:
                self._troubles.tell("announcing", f"beat will find out by itself: {error}")
            else:
                self._troubles.over("announcing")
                self._announced_ms = due_ms
