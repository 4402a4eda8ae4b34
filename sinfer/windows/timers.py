"""What is due at which watermark, among stored things and those of a plan in the making."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from sortedcontainers import SortedDict


class Timers:
    """Things by the watermark at which something happens to them.

    ``keep`` and ``drop`` follow the stored state. Between ``begin`` and the next ``begin`` one plan
    is made: it may ``note`` things of its own, and ``take`` hands out each thing once.

    Things are tuples that can be ordered; those due at one time come in their order, whatever the
    order they were kept in, so that a restart changes nothing.

    Attributes:
        is_used: whether anything was kept, noted or taken since the last ``begin``, or is kept.
    """

    __slots__ = ("_drafts", "_kept", "_next", "_taken_until", "is_used")

    def __init__(self) -> None:
        self._kept: SortedDict[int, dict[Any, int]] = SortedDict()
        self.begin()

    def begin(self) -> None:
        """Start a plan: forget what the last one noted."""
        self._drafts: list[tuple[int, Any]] = []
        self._taken_until: int | None = None
        self._next: int | None = self.first
        self.is_used = bool(self._kept)

    @property
    def first(self) -> int | None:
        """When the first of the kept things is due."""
        return self._kept.peekitem(0)[0] if self._kept else None

    @property
    def last(self) -> int | None:
        """When the last of all things is due."""
        dues = [due_ms for due_ms, _ in self._drafts]
        if self._kept:
            dues.append(self._kept.peekitem(-1)[0])
        return max(dues, default=None)

    def keep(self, due_ms: int, thing: Any) -> None:
        """Add a stored thing. One that is kept twice has to be dropped twice."""
        self.is_used = True
        things = self._kept.setdefault(due_ms, {})
        things[thing] = things.get(thing, 0) + 1

    def drop(self, due_ms: int, thing: Any) -> None:
        """Remove a stored thing."""
        things = self._kept[due_ms]
        things[thing] -= 1
        if not things[thing]:
            del things[thing]
            if not things:
                del self._kept[due_ms]

    def drop_until(self, mark: int) -> None:
        """Remove all stored things that were due at a watermark."""
        for due_ms in list(self._kept.irange(None, mark)):
            del self._kept[due_ms]

    def note(self, due_ms: int, thing: Any) -> None:
        """Add a thing for the rest of this plan. It is handed out even when it moved on since."""
        self.is_used = True
        heappush(self._drafts, (due_ms, thing))
        if self._next is None or due_ms < self._next:
            self._next = due_ms

    def is_due(self, mark: int) -> bool:
        """Whether anything is due at a watermark that was not taken yet."""
        return self._next is not None and mark >= self._next

    def take(self, mark: int) -> list[tuple[int, Any]]:
        """What is due at a watermark and was not taken yet, in the order of due times."""
        self.is_used = True
        due = set()
        while self._drafts and self._drafts[0][0] <= mark:
            due.add(heappop(self._drafts))
        since = self._taken_until
        if since is None or since < mark:
            for due_ms in self._kept.irange(since, mark, inclusive=(False, True)):
                due.update((due_ms, thing) for thing in self._kept[due_ms])
            self._taken_until = mark
        self._next = next(self._kept.irange(self._taken_until, inclusive=(False, True)), None)
        if self._drafts and (self._next is None or self._drafts[0][0] < self._next):
            self._next = self._drafts[0][0]
        return sorted(due)
