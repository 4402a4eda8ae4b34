"""What a tick does: close what is due by time, find what nobody works on, send hints for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from sinfer.errors import UnavailableError
from sinfer.settings import settings
from sinfer.tasks.runtime import Runtime
from sinfer.units import to_ms
from sinfer.windows.ids import Scope
from sinfer.windows.index_repair import repair_index
from sinfer.windows.schedule import Closing, DuePartition
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)

_MOST_PARTITIONS = 1000
_AT_ONCE = 32
_SWEEP_MS = 10_000
"""How often all partitions are looked at, due or not."""

_REPAIR_MS = 30_000
"""How often windows are looked for that no index names any more."""


async def tick(runtime: Runtime) -> dict[str, int]:
    """Look at the due partitions, and from time to time at all.

    Ticks that come in a bunch, as behind a stalled worker or from several beats, find that one of
    them was just here and return.

    Returns:
        Partitions looked at, windows closed, leases ended and windows hinted.
    """
    schedule = runtime.schedule
    totals = {"partitions": 0, "closed": 0, "expired": 0, "hinted": 0}
    pause_ms = max(1, to_ms(settings().tick) // 2)
    turn = await schedule.tick(
        pause_ms=pause_ms, limit=_MOST_PARTITIONS, sweep=_SWEEP_MS, repair=_REPAIR_MS
    )
    if turn is None:
        return totals
    due = turn.due
    if "sweep" in turn.also:
        known = {partition.scope for partition in due}
        due += [DuePartition(s, 0) for s in await schedule.partitions() if s not in known]
    if "repair" in turn.also:
        await _repair(runtime.store, await schedule.partitions())
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look(partition: DuePartition) -> tuple[Scope, Closing]:
        async with limit:
            closing = await schedule.close_due(partition.scope)
            if partition.due_ms:
                await schedule.reschedule(partition, closing)
            elif closing.next_due_ms:
                await schedule.announce(partition.scope, closing.wait_ms)
            return partition.scope, closing

    for scope, closing in await asyncio.gather(*(look(partition) for partition in due)):
        runtime.hints.send(scope, closing.hint)
        totals["partitions"] += 1
        totals["closed"] += closing.closed
        totals["expired"] += closing.expired
        totals["hinted"] += closing.hint
    return totals


async def _repair(store: Store, scopes: Sequence[Scope]) -> None:
    """Put back what keys that were deleted or evicted took from the indexes."""
    for scope in scopes:
        try:
            await repair_index(store, scope)
        except UnavailableError:
            raise
        except Exception:
            _log.exception("%s: its indexes cannot be gone through", scope)
