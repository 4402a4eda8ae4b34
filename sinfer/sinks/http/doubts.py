"""Refusals of an HTTP receiver that may be due to the results, or to the receiver and its settings.

403 may come of a token that lost its permission, and of a firewall that dislikes one text; 404 of a
wrong URL, and of a result that names what does not exist. Results that die of a wrong token are
lost work, and a window that waits for one bad result is held up. So a result is refused only when
something shows that it is due to it: others were taken, and still are.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from sinfer.errors import SinkUnavailableError
from sinfer.types.result import WindowResults

_ALONE = 3
"""After so many results that are refused alone while none is taken, the search ends."""

_STRIKES = 3
"""A window is to blame that was refused so often, with others taken each time in between."""

_CLOSED_S = 5.0
"""How long a search that found nothing taken stands for those of other windows."""

_MOST_REMEMBERED = 10_000

Post = Callable[[WindowResults], Awaitable[dict[int, str]]]
"""Posts a part of a window; returns the ordinals that are refused for sure, and why."""


class DoubtfulError(SinkUnavailableError):
    """Results were refused, and it is not clear whether any others would be taken."""


@dataclass(slots=True)
class _Suspect:
    """A window that was refused: how often, and how many others were taken before."""

    strikes: int
    taken: int


@dataclass(slots=True)
class _Search:
    """What a search has found: who stands alone refused, who is refused for sure, who was taken."""

    doubtful: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    taken: WindowResults | None = None


class Doubts:
    """Finds out who is to blame.

    Args:
        post: see ``Post``; it raises ``DoubtfulError`` for what is not clear.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._taken = 0
        self._suspects: OrderedDict[str, _Suspect] = OrderedDict()
        self._looking = asyncio.Lock()
        self._closed_until_s = 0.0

    def taken(self) -> None:
        """Note that the receiver took results."""
        self._taken += 1
        self._closed_until_s = 0.0

    async def look(self, results: WindowResults, doubt: DoubtfulError) -> dict[int, str]:
        """Look for the results that a window was refused for; one window at a time does.

        Returns:
            Their ordinals, and why; all others were taken.

        Raises:
            SinkUnavailableError: nothing shows that it is due to the results.
        """
        async with self._looking:
            return await self._look(results, doubt)

    async def _look(self, results: WindowResults, doubt: DoubtfulError) -> dict[int, str]:
        is_guilty = self._is_guilty(results)
        if time.monotonic() < self._closed_until_s and not is_guilty:
            raise doubt
        search = _Search()
        if len(results) == 1:
            search.doubtful[results.rows[0].ordinal] = str(doubt)
        else:
            try:
                await self._halve(results, search, is_guilty=is_guilty)
            finally:
                if search.taken is None:
                    self._closed_until_s = time.monotonic() + _CLOSED_S
        if search.taken is not None:
            await self._post(search.taken)  # it still takes what it took: the same key and body
            self.taken()
        elif not is_guilty:
            raise doubt
        self._suspects.pop(results.window_name, None)
        return search.refused | search.doubtful

    def _is_guilty(self, results: WindowResults) -> bool:
        name = results.window_name
        suspect = self._suspects.setdefault(name, _Suspect(0, self._taken - 1))
        if len(self._suspects) > _MOST_REMEMBERED:
            self._suspects.popitem(last=False)
        if suspect.taken < self._taken:
            suspect.taken = self._taken
            suspect.strikes += 1
        return suspect.strikes >= _STRIKES

    async def _halve(self, part: WindowResults, search: _Search, *, is_guilty: bool) -> None:
        """Post the halves of a part that was refused, one after the other."""
        middle = len(part) // 2
        for rows in (part.rows[:middle], part.rows[middle:]):
            half = replace(part, rows=rows)
            try:
                refused = await self._post(half)
            except DoubtfulError as doubt:
                if len(half) > 1:
                    await self._halve(half, search, is_guilty=is_guilty)
                    continue
                search.doubtful[half.rows[0].ordinal] = str(doubt)
                if len(search.doubtful) >= _ALONE and search.taken is None and not is_guilty:
                    raise
                continue
            search.refused |= refused
            if len(refused) < len(half):
                search.taken = half
