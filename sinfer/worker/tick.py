"""What a tick does: close what is due by time, find what nobody works on, send hints for it."""

from __future__ import annotations

import asyncio
import logging

from sinfer.config.units import to_ms
from sinfer.errors import SinferError, StoreFullError, UnavailableError
from sinfer.settings import settings
from sinfer.store.boards.partition_faults import Fault, FaultBoard
from sinfer.store.lua import HINT_MS
from sinfer.store.partition.index_repair import repair_index
from sinfer.store.schedule import DuePartition, Turn
from sinfer.windows.dead_letters import one_line
from sinfer.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_MOST_PARTITIONS = 1000
_AT_ONCE = 32
_SWEEP_MS = 10_000
"""How often all partitions are looked at, due or not."""

_REPAIR_MS = 30_000
"""How often windows are looked for that no index names any more."""

_HINT_COST_MS = 10
"""So much longer a hint counts as on its way for each partition that is due: what is sent again and
again must leave workers time for what it tells of."""


async def tick(runtime: Runtime) -> dict[str, int]:
    """Look at the due partitions, and from time to time at all.

    Ticks that come in a bunch, as behind a stalled worker or from several beats, find that one of
    them was just here and return. A partition that cannot be looked at is noted, tried again later
    and later, and holds up no other.

    Returns:
        Partitions looked at, windows closed, leases ended, windows hinted and partitions that
        failed.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    turn = await runtime.schedule.tick(
        pause_ms=max(1, to_ms(settings().tick) // 2),
        limit=_MOST_PARTITIONS,
        sweep=_SWEEP_MS,
        repair=_REPAIR_MS,
    )
    looking = _Tick(runtime)
    if turn is not None:
        await looking.run(turn)
    return looking.totals


class _Tick:
    """One look at partitions."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._schedule = runtime.schedule
        self._board = FaultBoard(runtime.store)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._faults: dict[str, Fault] = {}
        self._now_ms = 0
        self._hint_ms = HINT_MS
        self._is_repairing = False
        self.totals = {"partitions": 0, "closed": 0, "expired": 0, "hinted": 0, "failed": 0}

    async def run(self, turn: Turn) -> None:
        """Do what a tick has to do now."""
        self._now_ms = await self._store.now_ms()
        self._faults = await self._board.read()
        due = list(turn.due)
        if turn.also:
            known = {partition.scope for partition in due}
            stored = await self._schedule.partitions()
            due += [DuePartition(scope, 0) for scope in stored if scope not in known]
            # What was forgotten meanwhile has no fault any more.
            names = {str(scope) for scope in (*stored, *known)}
            await self._board.clear(name for name in self._faults if name not in names)
        self._is_repairing = "repair" in turn.also
        due = [partition for partition in due if not await self._has_to_wait(partition)]
        self._hint_ms = max(HINT_MS, _HINT_COST_MS * len(due))
        looks = await asyncio.gather(*(self._look(p) for p in due), return_exceptions=True)
        for problem in looks:
            if isinstance(problem, BaseException):
                raise problem

    async def _has_to_wait(self, partition: DuePartition) -> bool:
        """Whether it failed a moment ago. It is put off, so as not to be in the way of others."""
        fault = self._faults.get(str(partition.scope))
        if fault is None or fault.next_ms <= self._now_ms:
            return False
        if partition.due_ms:
            await self._schedule.reschedule(partition, fault.next_ms - self._now_ms)
        return True

    async def _look(self, partition: DuePartition) -> None:
        """Look at one partition.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        async with self._limit:
            try:
                await self._close(partition)
            except UnavailableError:
                raise
            except Exception as error:  # whatever is stored there
                self.totals["failed"] += 1
                await self._note(str(partition.scope), error, partition)
            else:
                await self._clear(str(partition.scope))

    async def _close(self, partition: DuePartition) -> None:
        scope = partition.scope
        closing = await self._schedule.close_due(scope, hint_ms=self._hint_ms)
        self._runtime.hints.send(scope, closing.hint)
        self.totals["partitions"] += 1
        self.totals["closed"] += closing.closed
        self.totals["expired"] += closing.expired
        self.totals["hinted"] += closing.hint
        if partition.due_ms:
            await self._schedule.reschedule(partition, closing.wait_ms)
        elif closing.next_due_ms:
            await self._schedule.announce(scope, closing.wait_ms)
        if self._is_repairing:
            await repair_index(self._store, scope)

    async def _note(self, name: str, error: Exception, partition: DuePartition) -> None:
        """Say what is wrong, now and then, and have it tried again later."""
        text = one_line(str(error) if isinstance(error, SinferError) else repr(error))
        before = self._faults.get(name)
        try:
            fault = await self._board.note(name, text, before, self._now_ms)
            if partition.due_ms:
                await self._schedule.reschedule(partition, fault.next_ms - self._now_ms)
        except StoreFullError:
            return
        if before is None or before.error != text:
            _log.error("%s: cannot be looked after; others go on: %s", name, text)

    async def _clear(self, name: str) -> None:
        if name in self._faults:
            await self._board.clear([name])
            _log.info("%s: is looked after again", name)
