"""Which tasks take too much of Redis' memory: the one that fills it stops first, others go on.

Below 60 % of ``maxmemory`` a task may take what it needs. Above that the tasks that take most stop
pulling: those above the level at which all together would be within 60 %. They go on when they are
within the level for 50 %. At 80 % all stop, see ``backpressure.py``; where some were stopped
before, because they take too much, the others go on up to 90 %. A task may have a limit of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from sinfer.products.task import InferTaskConfig
from sinfer.store.boards.task_memory import TaskMemoryBoard, TaskName, shown
from sinfer.store.connection import Store
from sinfer.store.partition.memory_use import measure
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

HIGH, LOW = 0.60, 0.50
_OWN_LOW = 0.875
"""A task with a limit of its own goes on below this part of it."""

_AT_ONCE = 100
"""Partitions that are measured each time; those of others come from their ingestors."""

_FORGOTTEN_MS = 60_000


class TaskBudgets:
    """Knows which tasks are stopped; one for each ingestor.

    Args:
        store: the window store.

    Attributes:
        stopped: why each of them is.
        changes: how often that has changed; nobody may have looked in between.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._board = TaskMemoryBoard(store)
        self.stopped: dict[TaskName, str] = {}
        self._place = 0
        self.changes = 0

    def reason(self, product: str, task: str) -> str:
        """Why a task is stopped; empty when it is not."""
        return self.stopped.get((product, task), "")

    async def refresh(
        self, mine: Mapping[Scope, InferTaskConfig | None], used: int, limit: int
    ) -> None:
        """Measure this ingestor's partitions, and see what all tasks take.

        Args:
            mine: its partitions, with their tasks; None for tasks that are gone.
            used: Redis' memory in use, bytes.
            limit: its ``maxmemory``; 0 for none.

        Raises:
            UnavailableError: Redis is unavailable.
            StoreFullError: Redis takes nothing more.
        """
        own = {
            (scope.product, scope.task): int(task.limits.max_memory)
            for scope, task in mine.items()
            if task is not None and task.limits.max_memory is not None
        }
        if (not own and not self.stopped and used < LOW * limit) or not (limit or own):
            self._take({})
            return
        now_ms = await self._store.now_ms()
        await self._measure(list(mine), now_ms)
        uses = await self._board.taken(now_ms - _FORGOTTEN_MS)
        taken = {task: use.total for task, use in uses.items()}
        found = {
            task: f"{shown(uses[task].total, uses[task].dead)}, more than {why}"
            for task, why in self._above(taken, own, used, limit).items()
        }
        await self._tell(found, {(scope.product, scope.task) for scope in mine}, now_ms)
        self._take(found)

    async def _measure(self, scopes: list[Scope], now_ms: int) -> None:
        if not scopes:
            return
        places = range(self._place, self._place + min(_AT_ONCE, len(scopes)))
        chosen = [scopes[place % len(scopes)] for place in places]
        self._place = places.stop % len(scopes)
        await self._board.note({s: await measure(self._store, s) for s in chosen}, now_ms)

    def _above(
        self, taken: dict[TaskName, int], own: dict[TaskName, int], used: int, limit: int
    ) -> dict[TaskName, str]:
        found = {}
        others = used - sum(taken.values())
        high, low = (fair_level(taken.values(), part * limit - others) for part in (HIGH, LOW))
        for task, size in taken.items():
            is_stopped = task in self.stopped
            if size > own.get(task, math.inf) * (_OWN_LOW if is_stopped else 1):
                found[task] = f"limits.max_memory ({own[task] >> 20} MiB)"
            elif limit and len(taken) > 1 and size > (low if is_stopped else high):
                level = max(0, int(high if high < math.inf else low))
                found[task] = f"its share ({level >> 20} MiB) now that Redis is filling up"
        return found

    async def _tell(self, found: dict[TaskName, str], mine: set[TaskName], now_ms: int) -> None:
        """For ``sinfer status``; others tell of theirs."""
        going_on = (self.stopped.keys() - found.keys()) & mine
        stopped = {task: found[task] for task in found.keys() & mine}
        await self._board.note_stopped(stopped, going_on, now_ms)

    def _take(self, found: dict[TaskName, str]) -> None:
        if found.keys() != self.stopped.keys():
            self.changes += 1
            for product, task in found.keys() - self.stopped.keys():
                _log.warning("%s/%s: pulling stops: %s", product, task, found[product, task])
            for product, task in self.stopped.keys() - found.keys():
                _log.warning("%s/%s: pulling may go on: Redis has room for it", product, task)
        self.stopped = found


def fair_level(sizes: Iterable[int], room: float) -> float:
    """The level at which to cut sizes so that together they fill a room; infinite when they fit."""
    ascending = sorted(sizes)
    for place, size in enumerate(ascending):
        level = room / (len(ascending) - place)
        if size > level:
            return level
        room -= size
    return math.inf
