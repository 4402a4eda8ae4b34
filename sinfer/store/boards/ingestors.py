"""Which ingestors of a product are alive, and who of them should have which partition.

Every ingestor writes a sign of life to Redis. Partitions are shared out by rendezvous hashing
(Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): when an ingestor
comes or goes, only the partitions that it takes or leaves change hands. Two ingestors that disagree
for a moment do no harm, since the partition's lease decides who writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from sinfer.errors import StoreError
from sinfer.store import keys
from sinfer.windows.ids import Scope, escape, unescape

if TYPE_CHECKING:
    from sinfer.store.connection import Store

SIGN_OF_LIFE_S = 1.0
SILENT_AFTER_MS = 4_000


class Member(NamedTuple):
    """One ingestor.

    Attributes:
        name: unique among all.
        only_task: the one task that it ingests; None for all.
    """

    name: str
    only_task: str | None = None

    def __str__(self) -> str:
        return self.name if self.only_task is None else f"{self.name}/{escape(self.only_task)}"

    @classmethod
    def parse(cls, text: str) -> Member:
        """The inverse of ``str``."""
        name, slash, only_task = text.partition("/")
        return cls(name, unescape(only_task) if slash else None)


async def alive_count(store: Store, product: str, now_ms: int) -> int:
    """How many ingestors of a product gave a sign of life lately.

    Args:
        store: the window store.
        product: name of the product.
        now_ms: the time of the store.
    """
    key = keys.ingestors(product)
    try:
        return int(await store.ask(store.redis.zcount(key, now_ms - SILENT_AFTER_MS, "+inf")))
    except StoreError:  # of another type: nobody can have given a sign of life
        return 0


class Membership:
    """The ingestors of one product.

    Args:
        store: the window store.
        product: name of the product.
        me: this ingestor.
    """

    def __init__(self, store: Store, product: str, me: Member) -> None:
        self._store = store
        self._key = keys.ingestors(product)
        self.me = me

    async def beat(self) -> list[Member]:
        """Give a sign of life and return all that gave one lately."""
        now_ms = await self._store.now_ms()
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.zadd(self._key, {str(self.me): now_ms})
        pipeline.zremrangebyscore(self._key, "-inf", now_ms - SILENT_AFTER_MS)
        pipeline.zrange(self._key, 0, -1)
        *_, names = await self._store.ask(pipeline.execute())
        return [Member.parse(name.decode()) for name in names]

    async def sign(self) -> None:
        """Give a sign of life, no more."""
        now_ms = await self._store.now_ms()
        await self._store.ask(self._store.redis.zadd(self._key, {str(self.me): now_ms}))

    async def leave(self) -> None:
        """Take this ingestor off the list."""
        await self._store.ask(self._store.redis.zrem(self._key, str(self.me)))


def preferred(scope: Scope, members: Iterable[Member]) -> Member | None:
    """Who of the members should have a partition; None when none of them ingests its task."""
    text = str(scope)

    def weight(member: Member) -> bytes:
        return blake2b(f"{member.name}\n{text}".encode(), digest_size=8).digest()

    able = [member for member in members if member.only_task in (None, scope.task)]
    return max(able, key=weight, default=None)
