"""Windows of a task that were refused whole since one was taken, as all workers see them."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store import keys
from sinfer.store.keys import TAKEN_FIELD, PartitionKeys
from sinfer.store.schedule import Schedule

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_REMEMBERED_MS = 24 * 3600 * 1000
_MOST_ENTRIES = 500
_DEAD = "dead\0"


@dataclass(frozen=True, slots=True)
class Streak:
    """Windows that one thing refused alike, with none taken between.

    Attributes:
        is_over: whether a window was taken since the one in question was refused first; there is
            no streak then.
        windows, items: how many were refused, the one in question included.
        age_ms: since the first of them.
    """

    is_over: bool
    windows: int
    items: int
    age_ms: int


class RefusalBoard:
    """The refusals of one task."""

    def __init__(self, store: Store, product: str, task: str) -> None:
        self._store = store
        self._product = product
        self._task = task
        self._key = keys.refusals(product, task)

    async def note(self, what: str, window_id: str, *, items: int, alike: str) -> Streak:
        """Note that all items of a window were refused.

        Args:
            what: refuses them: the model, a hook, a sink.
            window_id: of the window; one that is noted again counts once.
            items: how many it has.
            alike: the same for refusals that are to be counted together.
        """
        found = await self._store.run(
            "note_window_refusal",
            [self._key],
            [what, window_id, await self._taken(), items, alike, _REMEMBERED_MS, _MOST_ENTRIES],
            asked=keys.asked_beside(self._key, uuid.uuid4().hex),
        )
        is_over, windows, items, age_ms = map(int, found)
        return Streak(bool(is_over), windows, items, age_ms)

    async def note_dead(self, window_id: str, text: str) -> None:
        """Note that a window that was refused became dead letters, and how to call them."""
        entry = f"{await self._taken()}:{text}"
        await self._store.ask(self._store.redis.hset(self._key, f"{_DEAD}{window_id}", entry))

    async def dead(self) -> list[str]:
        """The texts of ``note_dead`` since the last window was taken, in order."""
        found = await self._store.ask(self._store.redis.hgetall(self._key))
        taken = await self._taken()
        entries = [
            value.decode().partition(":")
            for name, value in found.items()
            if name.startswith(_DEAD.encode())
        ]
        return sorted(text for before, _, text in entries if int(before) >= taken)

    async def _taken(self) -> int:
        """Windows of the task of which at least one item came through."""
        scopes = [
            scope
            for scope in await Schedule(self._store).partitions()
            if (scope.product, scope.task) == (self._product, self._task)
        ]
        asked = (self._store.redis.hget(PartitionKeys(s).meta, TAKEN_FIELD) for s in scopes)
        found = await asyncio.gather(*map(self._store.ask, asked))
        return sum(int(number or 0) for number in found)
