"""Which ingestors of a product are alive, and who of them should have which partition.

Every ingestor writes a sign of life to Redis. Partitions are shared out by rendezvous hashing
(Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): when an ingestor
comes or goes, only the partitions that it takes or leaves change hands. Two ingestors that disagree
for a moment do no harm, since the partition's lease decides who writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from sinfer.windows import keys
from sinfer.windows.ids import Scope
from sinfer.windows.store import Store

SIGN_OF_LIFE_S = 1.0
SILENT_AFTER_MS = 4_000


class Membership:
    """The ingestors of one product.

    Args:
        store: the window store.
        product: name of the product.
        me: name of this ingestor.
    """

    def __init__(self, store: Store, product: str, me: str) -> None:
        self._store = store
        self._key = keys.ingestors(product)
        self.me = me

    async def beat(self) -> list[str]:
        """Give a sign of life and return the names of all that gave one lately."""
        now_ms = await self._store.now_ms()
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.zadd(self._key, {self.me: now_ms})
        pipeline.zremrangebyscore(self._key, "-inf", now_ms - SILENT_AFTER_MS)
        pipeline.zrange(self._key, 0, -1)
        *_, names = await self._store.ask(pipeline.execute())
        return [name.decode() for name in names]

    async def leave(self) -> None:
        """Take this ingestor off the list."""
        await self._store.ask(self._store.redis.zrem(self._key, self.me))


def preferred(scope: Scope, members: Iterable[str]) -> str | None:
    """Who of the members should have a partition; None when there are none."""

    def weight(member: str) -> bytes:
        return blake2b(f"{member}\n{scope}".encode(), digest_size=8).digest()

    return max(members, key=weight, default=None)
