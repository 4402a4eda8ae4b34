"""Calls about parts of a window that are under way side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from sinfer.aio.cancel import end
from sinfer.errors import InferenceError, InferenceMisconfiguredError, InferenceUnavailableError
from sinfer.worker.item_search import ItemSearch, Places

Found = TypeVar("Found")

_UNANSWERED_IN_A_ROW = 3
"""Calls about a window without an answer, with none in between that had one, after which no more of
them are made: the model is unavailable."""


class PartCalls(Generic[Found]):
    """Calls about parts of a window that are under way side by side.

    One without an answer leaves its part for another try, and the others go on: what they cost is
    paid. After some in a row no more begin. Of parts of a call that was refused, one at a time is
    asked about: what becomes of it tells how to go on.

    Args:
        answer: asks about a part.
        search: has the parts.
        size: items of a whole call; None where that has all of them.
        unkept: room for calls whose answers are not kept yet: so many a killed worker may cost.

    Attributes:
        error: the first for which there was no answer; None while there is none.
    """

    def __init__(
        self,
        answer: Callable[[Places, ItemSearch], Coroutine[Any, Any, Found]],
        search: ItemSearch,
        size: int | None,
        unkept: asyncio.Semaphore,
    ) -> None:
        self._size = size
        self._unkept = unkept
        self._brought = 0
        self._answer = answer
        self._search = search
        self._under_way: dict[asyncio.Task[Found], Places] = {}
        self._left: list[Places] = []
        self._in_a_row = 0
        self.error: InferenceError | None = None

    @property
    def under_way(self) -> bool:
        """Whether there are any."""
        return bool(self._under_way)

    def begin(self, most: int) -> bool:
        """Begin calls until so many are under way; returns whether any is."""
        if self._in_a_row < _UNANSWERED_IN_A_ROW and len(self._under_way) < most:
            for part in islice(self._next(), most - len(self._under_way)):
                asked = asyncio.create_task(self._ask(part))
                self._under_way[asked] = part
        return self.under_way

    async def _ask(self, part: Places) -> Found:
        await self._unkept.acquire()
        try:
            return await self._answer(part, self._search)
        except BaseException:
            self._unkept.release()
            raise

    def kept(self) -> None:
        """What was brought so far is kept, or lost: others may be asked about."""
        for _ in range(self._brought):
            self._unkept.release()
        self._brought = 0

    def _next(self) -> Iterator[Places]:
        """Parts that may be asked about besides those that are."""
        known = {id(part) for part in (*self._under_way.values(), *self._left)}
        is_alone = not any(map(self._is_cut, self._under_way.values()))
        for part in self._search.todo:
            if id(part) in known:
                continue
            if not self._is_cut(part):
                yield part
            elif is_alone:
                is_alone = False
                yield part

    def _is_cut(self, part: Places) -> bool:
        return self._size is None or len(part) < self._size

    async def ended(self) -> list[tuple[Places, Found]]:
        """What the calls brought that have ended, in the order in which they began.

        Raises:
            Exception: anything but an ``InferenceError``; that is kept.
        """
        await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        brought = []
        for asked, part in list(self._under_way.items()):
            if asked.done():
                del self._under_way[asked]
                try:
                    brought.append((part, asked.result()))
                    self._brought += 1
                    self._in_a_row = 0
                except InferenceError as error:
                    self._note(error, part)
        return brought

    def _note(self, error: InferenceError, part: Places) -> None:
        self.error = self.error or error
        self._left.append(part)
        self._in_a_row += 1
        says_when = isinstance(error, InferenceUnavailableError) and error.retry_after is not None
        if says_when or isinstance(error, InferenceMisconfiguredError):
            self._in_a_row = _UNANSWERED_IN_A_ROW

    async def end(self) -> None:
        """Break off those that are under way."""
        await end(*self._under_way)
        self._brought += sum(not t.cancelled() and t.exception() is None for t in self._under_way)
        self._under_way.clear()
        self.kept()
