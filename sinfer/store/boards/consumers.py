"""Which partition reads which durable consumer: of two on one, each would miss messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store.keys import CONSUMER_FIELD, CONSUMERS, PartitionKeys
from sinfer.store.partition.incarnation import incarnation_of
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


def consumer_id(stream: str, created: str, durable: str) -> str:
    """What tells a consumer from all others, whatever server it is on.

    Args:
        stream: name of its stream.
        created: when that was made, as its server writes it.
        durable: its name.
    """
    return f"{incarnation_of(stream, created)}/{durable}"


class ConsumerBoard:
    """Says who reads a consumer, of all products in the store.

    A consumer is that of the partition which took it first, until that is forgotten or reads
    another one. The partition notes the consumer too, so that what is noted here can be checked.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def reader(self, consumer: str) -> Scope | None:
        """The partition that reads a consumer; see ``consumer_id``."""
        noted = await self._store.ask(self._store.redis.hget(CONSUMERS, consumer))
        return await self._checked((noted or b"").decode(), consumer)

    async def take(self, consumer: str, scope: Scope) -> Scope | None:
        """Note that a partition reads a consumer, and none besides. Only its writer may say so.

        Args:
            consumer: see ``consumer_id``; empty for none.
            scope: the partition.

        Returns:
            The partition of another task that has it; None when it is taken.
        """
        redis, meta = self._store.redis, PartitionKeys(scope).meta
        if not consumer:
            await self._store.ask(redis.hdel(meta, CONSUMER_FIELD))
            return None
        await self._store.ask(redis.hset(meta, CONSUMER_FIELD, consumer))
        noted = ((await self._store.ask(redis.hget(CONSUMERS, consumer))) or b"").decode()
        while noted != str(scope):
            other = await self._checked(noted, consumer)
            if other is not None and not is_same_task(other, scope):
                return other
            args = [consumer, str(scope), noted]
            noted = (await self._store.run("take_consumer", [CONSUMERS], args)).decode()
        return None

    async def give_up(self, scope: Scope, consumer: str) -> None:
        """Forget what a partition read that is forgotten itself."""
        if consumer:
            args = [consumer, "", str(scope)]
            await self._store.run("take_consumer", [CONSUMERS], args)

    async def of(self, scope: Scope) -> str:
        """The consumer that a partition reads or waits for; empty for none."""
        meta = PartitionKeys(scope).meta
        noted = await self._store.ask(self._store.redis.hget(meta, CONSUMER_FIELD))
        return (noted or b"").decode()

    async def _checked(self, noted: str, consumer: str) -> Scope | None:
        """The partition that is noted, if it still reads that."""
        try:
            scope = Scope.parse(noted)
        except ValueError:  # none is, or what is was written by somebody else
            return None
        return scope if await self.of(scope) == consumer else None


def is_same_task(one: Scope, other: Scope) -> bool:
    """Whether partitions are of one task."""
    return (one.product, one.task) == (other.product, other.task)
