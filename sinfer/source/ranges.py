"""Sets of sequence numbers, kept as few inclusive ranges."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """A set of integers as sorted, disjoint, inclusive ranges; neighbours are merged.

    Args:
        ranges: ``(first, last)`` pairs in any order; they may overlap.
    """

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in ranges:
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Add all of ``first..last``; nothing when ``last`` is less."""
        if last < first:
            return
        if self._lasts and first == self._lasts[-1] + 1:
            self._lasts[-1] = last
            return
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def discard_through(self, bound: int) -> None:
        """Remove every number that is not above ``bound``."""
        cut = bisect_right(self._lasts, bound)
        del self._firsts[:cut]
        del self._lasts[:cut]
        if self._firsts and self._firsts[0] <= bound:
            self._firsts[0] = bound + 1

    @property
    def first(self) -> tuple[int, int] | None:
        """The lowest range."""
        return (self._firsts[0], self._lasts[0]) if self._firsts else None

    @property
    def maximum(self) -> int | None:
        """The highest number."""
        return self._lasts[-1] if self._lasts else None

    def __contains__(self, number: int) -> bool:
        place = bisect_left(self._lasts, number)
        return place < len(self._firsts) and self._firsts[place] <= number

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._firsts, self._lasts, strict=True))

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._firsts)

    def __repr__(self) -> str:
        return f"RangeSet({list(self)})"
