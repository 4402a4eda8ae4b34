"""What a partition still holds, and whether more can come: what a drain waits for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.store_time import store_time
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class Left:
    """Windows of a partition that are not done."""

    open: int
    closed: int

    @property
    def windows(self) -> int:
        """All of them."""
        return self.open + self.closed


async def left_in(store: Store, scope: Scope) -> Left:
    """What a partition still holds."""
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hlen(keys.open)
    pipeline.hlen(keys.closed)
    return Left(*await store.ask(pipeline.execute()))


async def is_drained(store: Store, scope: Scope, since_ms: int) -> bool:
    """Whether nobody puts messages into a partition: its ingestor has stopped pulling and closed
    what was open, or there is none.

    Args:
        store: the window store.
        scope: the partition.
        since_ms: when the drain was asked for, which tells it from earlier ones.
    """
    meta = PartitionKeys(scope).meta
    fields = ["owner", "lease_until", "drained"]
    owner, lease_until, drained = await store.ask(store.redis.hmget(meta, fields))
    if int(drained or 0) == since_ms or owner is None:
        return True
    return int(lease_until or 0) <= (await store_time(store, meta)).now_ms
