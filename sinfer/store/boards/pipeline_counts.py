"""How often making a pipeline began: what is left there was begun by a process that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store import keys

if TYPE_CHECKING:
    from sinfer.store.connection import Store


class PipelineCounts:
    """The counts of one product. Raises ``UnavailableError`` and ``StoreFullError``.

    Args:
        store: the window store.
        product: name of the product.
    """

    def __init__(self, store: Store, product: str) -> None:
        self._store = store
        self._key = keys.making(product)

    async def begin(self, task: str) -> int:
        """It begins; how often it has begun without an end."""
        return int(await self._store.ask(self._store.redis.hincrby(self._key, task, 1)))

    async def end(self, task: str) -> None:
        """It has ended, well or not."""
        await self._store.ask(self._store.redis.hdel(self._key, task))
