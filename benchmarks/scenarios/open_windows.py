"""Measures commits and ticks with few and with many open windows, and prints JSON.

A program of its own, because what a tick uses reads its settings once for each process:
``python -m benchmarks.scenarios.open_windows``, with ``SINFER_REDIS_URL`` set.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.scenarios.costs import FEW, MANY, Costs
from sinfer.encoding import to_json
from sinfer.store import keys as names
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.tasks.celery import app
from sinfer.tasks.runtime import runtime
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import CountWindow
from sinfer.worker.runtime import Runtime
from sinfer.worker.tick import tick

_BATCH = 500
_COMMITS = 60
_TICKS = 20
_SPEC = CountWindow(type="count", count=1_000, max_wait="1h")
_PAYLOAD = b"x" * 300


class _Partition:
    """A partition with as many open windows as keys."""

    def __init__(self, store: Store, keys: int) -> None:
        self.scope = Scope("open-windows", str(keys), "all")
        self._names = [str(number) for number in range(keys)]
        self._writer = PartitionWriter(store, self.scope, owner="bench", lease_ms=600_000)
        self._planner: Planner = make_planner(_SPEC, self.scope.window_prefix)
        self._seq = 0

    async def fill(self) -> None:
        """Open a window for each key."""
        await self._writer.acquire()
        for start in range(0, len(self._names), _BATCH):
            await self._commit(self._names[start : start + _BATCH])

    async def add(self) -> None:
        """Add a message to the windows of so many random keys."""
        await self._commit(random.choices(self._names, k=_BATCH))

    async def _commit(self, names: Sequence[str]) -> None:
        now_ms = time.time_ns() // 1_000_000
        entries = []
        for name in names:
            self._seq += 1
            message = Message(_PAYLOAD, "in", None, self._seq, now_ms * 1_000_000)
            entries.append(Entry(message, name, 0))
        plan = self._planner.plan(entries, now_ms)
        counts = {"fetched": len(entries)}
        await self._writer.commit(Commit(plan, str(self._seq).encode(), (), counts))
        self._planner.apply(plan)


async def _median_ms(action: Callable[[], Awaitable[object]], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await action()
        taken.append(time.perf_counter() - started)
    return 1000 * statistics.median(taken)


async def _measure(here: Runtime) -> Costs:
    store = here.store
    few, many = _Partition(store, FEW), _Partition(store, MANY)
    await few.fill()
    await many.fill()
    commit_few_ms = await _median_ms(few.add, _COMMITS)
    commit_many_ms = await _median_ms(many.add, _COMMITS)
    keys = PartitionKeys(many.scope)

    async def look() -> None:
        await store.redis.hdel(names.CLOCK, "tick_until")
        await here.schedule.announce(many.scope)
        await tick(here)

    async def close() -> None:
        due = await store.redis.zrange(keys.deadlines, 0, _BATCH - 1)
        overdue: dict[Any, float] = dict.fromkeys(due, 1.0)
        await store.redis.zadd(keys.deadlines, overdue)
        await look()

    await look()
    tick_ms = await _median_ms(look, _TICKS)
    tick_due_ms = await _median_ms(close, _TICKS)
    return Costs(commit_few_ms, commit_many_ms, tick_ms, tick_due_ms)


def main() -> None:
    """Measure, and print the costs as JSON."""
    here = runtime(app)
    print(to_json(here.call(_measure(here))).decode())


if __name__ == "__main__":
    main()
