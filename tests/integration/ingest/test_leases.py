"""Leases of quiet partitions are renewed together; one that was lost is told to its holder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.errors import StaleTokenError
from sinfer.ingest.leases import LeaseKeeper
from sinfer.store.connection import Store
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope


class Holder:
    """Holds a lease."""

    def __init__(self, store: Store, scope: Scope, *, owner: str = "a", lease_ms: int) -> None:
        self.writer = PartitionWriter(store, scope, owner=owner, lease_ms=lease_ms)
        self.renewed_s = 0.0
        self.lost: StaleTokenError | None = None

    def lease_lost(self, error: StaleTokenError) -> None:
        self.lost = error


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(redis_server.url)
    yield store
    await store.aclose()


async def remaining_ms(store: Store, holder: Holder) -> int:
    until = await store.redis.hget(holder.writer.keys.meta, "lease_until")
    return int(until or 0) - await store.now_ms()


async def test_all_that_are_due_are_renewed(store: Store, unique: str) -> None:
    keeper = LeaseKeeper(store)
    holders = [Holder(store, Scope("p", unique, f"s.{n}"), lease_ms=60_000) for n in range(700)]
    for holder in holders:
        await holder.writer.acquire()
        await store.redis.hset(holder.writer.keys.meta, "lease_until", await store.now_ms() + 5000)
        keeper.add(holder)
    await keeper.renew()
    for holder in (holders[0], holders[-1]):
        assert await remaining_ms(store, holder) > 30_000
    assert all(holder.renewed_s for holder in holders)


async def test_partitions_that_were_deleted_from_the_list_of_all_are_known_again(
    store: Store, unique: str
) -> None:
    keeper = LeaseKeeper(store)
    scope = Scope("p", unique, "s")
    holder = Holder(store, scope, lease_ms=60_000)
    await holder.writer.acquire()
    keeper.add(holder)
    assert scope not in await Schedule(store).partitions()
    await keeper.renew()
    assert scope in await Schedule(store).partitions()


async def test_one_that_renewed_by_a_commit_is_not_due(store: Store, unique: str) -> None:
    keeper = LeaseKeeper(store)
    holder = Holder(store, Scope("p", unique, "s"), lease_ms=60_000)
    await holder.writer.acquire()
    keeper.add(holder)
    await keeper.renew()
    await store.redis.hset(holder.writer.keys.meta, "lease_until", 1)
    await keeper.renew()
    assert await remaining_ms(store, holder) < 0


async def test_a_lost_lease_is_told_to_its_holder_alone(store: Store, unique: str) -> None:
    keeper = LeaseKeeper(store)
    kept = Holder(store, Scope("p", unique, "kept"), lease_ms=60_000)
    lost = Holder(store, Scope("p", unique, "lost"), lease_ms=1)
    for holder in (kept, lost):
        await holder.writer.acquire()
        keeper.add(holder)
    other = Holder(store, Scope("p", unique, "lost"), owner="b", lease_ms=60_000)
    while await other.writer.acquire():
        pass
    await keeper.renew()
    assert kept.lost is None
    assert lost.lost is not None


async def test_who_lost_a_lease_and_is_slow_to_end_does_not_hold_the_next(
    store: Store, unique: str
) -> None:
    keeper = LeaseKeeper(store)
    holder = Holder(store, Scope("p", unique, "wiped"), lease_ms=60_000)
    await holder.writer.acquire()
    keeper.add(holder)
    taken_ms = await store.now_ms()
    while await store.now_ms() == taken_ms:
        pass  # tokens follow the clock
    await store.redis.delete(holder.writer.keys.meta)
    await keeper.renew()
    assert holder.lost is not None
    await store.redis.delete(holder.writer.keys.meta)
    holder.renewed_s = 0.0
    await keeper.renew()
    assert not await store.redis.exists(holder.writer.keys.meta)


async def test_what_was_given_back_is_not_taken_again(store: Store, unique: str) -> None:
    keeper = LeaseKeeper(store)
    holder = Holder(store, Scope("p", unique, "s"), lease_ms=60_000)
    await holder.writer.acquire()
    keeper.add(holder)
    keeper.remove(holder)
    await holder.writer.release()
    await keeper.renew()
    assert await store.redis.hget(holder.writer.keys.meta, "owner") is None
