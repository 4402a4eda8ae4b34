"""How many windows a worker process has under way at once, and whose turn it is to begin more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sinfer.aio.wait import wait_for_event
from sinfer.worker.ready_task import ReadyTask

AT_ONCE = 128
"""Windows under way at which a process is full: tasks that have their share begin no more."""

MOST_BYTES = 128 * 2**20
"""Payload of the windows under way at which tasks that have their share of it begin no more."""

_UTMOST_BYTES = 2 * MOST_BYTES
"""Payload at which nobody begins more, but for a task that has no window under way."""

_UNKNOWN = 8
"""Windows of a task that are begun before it is known how large they are."""

_TURN_S = 0.2
"""How long others get their turn at least."""


_FIRST_ALONE_S = 5.0
_OTHERS_TURN = 4
_LONGEST_TURN_S = 2.0


class Places:
    """Hands out places for windows; use it on one event loop.

    A task has at most ``max_concurrency`` of them. When the process is full, only tasks below their
    share (the places divided by the tasks at work, at least one) get more: whatever one task waits
    for, another that has little to do begins at once. Partitions of one task take turns. However
    many places are free, windows under way do not fill the memory: of large ones fewer are begun.
    The memory is shared as the places are, so large windows of a slow model leave others theirs.

    Args:
        limit: places at which the process is full. A task that may have more alone has them.
        changed: called with the number of places in use whenever it changes.

    Attributes:
        taken: places in use.
        bytes: payload of the windows that have them.
    """

    def __init__(
        self, limit: int = AT_ONCE, changed: Callable[[int], None] = lambda _: None
    ) -> None:
        self._limit = limit
        self._note = changed
        self.taken = self.bytes = 0
        self._at_work: set[ReadyTask] = set()
        self._freed = asyncio.Event()
        self._is_closed = False
        self._waiting = 0
        self._alone = asyncio.Lock()
        self._is_kept_free = False
        self._next_alone_s = float("-inf")
        self._within_s = _FIRST_ALONE_S
        changed(0)

    def free(self, task: ReadyTask) -> int:
        """Windows of a task that may still be started, whatever others have under way; one at most
        while its endpoint is on trial."""
        is_doubted = time.monotonic() < task.is_doubted_until_s
        limit = 1 if task.guard.on_trial or is_doubted else task.limit
        return max(0, limit - task.active)

    def room(self, task: ReadyTask) -> int:
        """Windows of a task that may be begun now."""
        if self._is_closed or self._is_kept_free:
            return 0
        share = max(1, self._limit // len(self._at_work | {task}))
        spare = max(self._limit, task.limit) - self.taken
        return max(0, min(self.free(task), max(spare, share - task.active), self._light(task)))

    def _light(self, task: ReadyTask) -> int:
        """Windows that the memory has room for, if they are as large as those before."""
        if not task.window_bytes:
            return _UNKNOWN
        share = MOST_BYTES // len(self._at_work | {task}) - task.bytes
        share = min(share, _UTMOST_BYTES - self.bytes)
        spare = MOST_BYTES - self.bytes
        return max(int(max(spare, share) // task.window_bytes), 0 if task.active else 1)

    def weigh(self, task: ReadyTask, size: int) -> None:
        """A window has one of the places.

        Args:
            task: its task.
            size: its payload, bytes.
        """
        self.bytes += size
        task.bytes += size
        task.window_bytes = max(1.0, task.window_bytes * 0.8 + size * 0.2, float(size) * 0.5)

    def take_now(self, task: ReadyTask, most: int) -> int:
        """Take places that are free, where nobody waits for them; returns how many."""
        free = 0 if task.turn.locked() else min(most, self.room(task))
        if free:
            self._take(task, free)
        return free

    async def take(self, task: ReadyTask, most: int) -> int:
        """Wait for one's turn and for free places, and take them.

        Returns:
            How many, at least one; 0 when the process begins no more windows.
        """
        self._waiting += 1
        try:
            async with task.turn:
                while not self._is_closed:
                    if free := min(most, self.room(task)):
                        self._take(task, free)
                        return free
                    await self._freed.wait()
        finally:
            self._waiting -= 1
        return 0

    def _take(self, task: ReadyTask, places: int) -> None:
        self.taken += places
        task.active += places
        self._at_work.add(task)
        self._note(self.taken)

    @asynccontextmanager
    async def alone(self, task: ReadyTask, within_s: float) -> AsyncIterator[bool]:
        """Have the process for a single window that may be what ends it: wait until nothing else is
        under way, and let nothing else begin.

        The place is taken, and to be given back as others are. Between two of these windows others
        get their turn, for as long as the last one took.

        Others are not held up for long at a time: at first for a few seconds; when they do not end
        within these, they get four times as long before it is tried again, for twice as long.

        Args:
            task: the task.
            within_s: how long others may take to end at most, seconds.

        Yields:
            Whether it is alone now.
        """
        async with self._alone:
            turn_s = self._next_alone_s - time.monotonic()
            if (self.taken or self._waiting) and turn_s > 0:
                if turn_s > _LONGEST_TURN_S:
                    yield False  # its partition has other windows to see to
                    return
                await asyncio.sleep(turn_s)
            self._is_kept_free = True
            try:
                within_s = min(within_s, self._within_s)
                until_s = time.monotonic() + within_s
                while self.taken and not self._is_closed and time.monotonic() < until_s:
                    await wait_for_event(self._freed, until_s - time.monotonic())
                if self.taken or self._is_closed:
                    # Something hangs: it must not keep the process from all others as well.
                    self._within_s = 2 * within_s
                    self._next_alone_s = time.monotonic() + _OTHERS_TURN * within_s
                    yield False
                    return
                self._within_s = _FIRST_ALONE_S
                self._take(task, 1)
                began_s = time.monotonic()
                try:
                    yield True
                finally:
                    took_s = time.monotonic() - began_s
                    self._next_alone_s = time.monotonic() + max(_TURN_S, took_s)
            finally:
                self._is_kept_free = False
                self._wake()

    def give_back(self, task: ReadyTask, places: int = 1, size: int = 0) -> None:
        """Let others have places.

        Args:
            task: that has had them.
            places: how many.
            size: the payload of the windows that had them, bytes.
        """
        self.bytes -= size
        task.bytes -= size
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
