"""How many windows a worker process has under way at once, and whose turn it is to begin more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sinfer.tasks.ready_task import ReadyTask

AT_ONCE = 64
"""Windows under way at which a process is full: tasks that have their share begin no more."""


class Places:
    """Hands out places for windows; use it on one event loop.

    A task has at most ``max_concurrency`` of them. When the process is full, only tasks below their
    share (the places divided by the tasks at work, at least one) get more: whatever one task waits
    for, another that has little to do begins at once. Partitions of one task take turns.

    Args:
        limit: places at which the process is full. A task that may have more alone has them.

        changed: called with the number of places in use whenever it changes.

    Attributes:
        taken: places in use.
    """

    def __init__(
        self, limit: int = AT_ONCE, changed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._limit = limit
        self._note = changed
        self.taken = 0
        self._at_work: set[ReadyTask] = set()
        self._freed = asyncio.Event()
        self._is_closed = False
        changed(0)

    def room(self, task: ReadyTask) -> int:
        """Windows of a task that may be begun now."""
        if self._is_closed:
            return 0
        share = max(1, self._limit // len(self._at_work | {task}))
        spare = max(self._limit, task.limit) - self.taken
        return max(0, min(task.free, max(spare, share - task.active)))

    async def take(self, task: ReadyTask, most: int) -> int:
        """Wait for one's turn and for free places, and take them.

        Returns:
            How many, at least one; 0 when the process begins no more windows.
        """
        async with task.turn:
            while not self._is_closed:
                if free := min(most, self.room(task)):
                    self.taken += free
                    task.active += free
                    self._at_work.add(task)
                    self._note(self.taken)
                    return free
                await self._freed.wait()
        return 0

    def give_back(self, task: ReadyTask, places: int = 1) -> None:
        """Let others have places."""
        if not places:
            return
        self.taken -= places
        task.active -= places
        if not task.active:
            self._at_work.discard(task)
        self._note(self.taken)
        self._wake()

    def close(self) -> None:
        """Begin no more windows, and tell whoever waits for a place."""
        self._is_closed = True
        self._wake()

    def _wake(self) -> None:
        freed, self._freed = self._freed, asyncio.Event()
        freed.set()
