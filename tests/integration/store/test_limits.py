"""The store at its limits: full memory, huge batches, foreign keys, late answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.errors import PositionError, StoreError, StoreFullError, WindowConflictError
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from tests.integration.store.conftest import Partition
from tests.support.accounts import read_account
from tests.support.window_reference import Item


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    with RedisServer(config={"maxmemory": "16mb"}) as server:
        yield server


@pytest.fixture
def small_store(empty_store: Store) -> Store:
    return empty_store


def large(seq: int) -> Entry:
    return Entry(Message(b"x" * 500_000, stream_seq=seq), "a", 0)


async def test_a_full_store_refuses_commits_whole_and_lets_workers_drain_it(
    small_store: Store, unique: str
) -> None:
    partition = Partition(small_store, Scope("p", unique, ">"), type="count", count=2)
    writer, planner = partition.writer, partition.planner
    assert await writer.acquire() == 0
    seq, refused = 0, None
    while refused is None:
        plan = planner.plan([large(seq + 1), large(seq + 2)], 0)
        commit = Commit(plan, b"%d" % (seq + 2), counts={"fetched": 2})
        try:
            await writer.commit(commit)
        except StoreFullError:
            refused = commit
        else:
            planner.apply(plan)
            seq += 2
    assert seq >= 10

    state = await writer.load()
    assert (state.source, state.windows) == (b"%d" % seq, {})
    assert await writer.acquire() == 0
    assert (await Schedule(small_store).close_due(partition.scope)).closed == 0
    claims = await partition.claim()
    assert len(claims) == seq // 2
    assert all(await partition.claims.renew(claims, lease_ms=60_000))
    assert await partition.claims.store_output(claims[0], sinks=["sql-0"])
    assert await partition.claims.release(claims[0])
    claims[:1] = await partition.claim()
    await partition.complete(claims)

    assert (await writer.commit(refused)).pending == 1
    account = await read_account(small_store, partition.scope)
    assert (account.fetched, account.sunk, account.in_flight) == (seq + 2, seq, 2)
    assert account.missing == 0


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "count", "count": 1},
        {"type": "tumbling", "size": "10ms", "time": "event"},
        {"type": "sliding", "size": "30ms", "slide": "10ms", "time": "event"},
        {"type": "session", "gap": "10ms", "time": "event"},
    ],
    ids=lambda spec: str(spec["type"]),
)
async def test_one_batch_may_change_ten_thousand_windows(
    store: Store, unique: str, spec: dict[str, Any]
) -> None:
    partition = Partition(store, Scope("p", unique, ">"), **spec)
    items = [Item(n, f"key {n}", 5) for n in range(1, 10_001)]
    await partition.take(items)
    await partition.drain()
    windows = 0
    while claims := await partition.claim(2_000):
        windows += len(claims)
        await partition.complete(claims)
    assert windows == (30_000 if spec["type"] == "sliding" else 10_000)
    account = await read_account(store, partition.scope)
    assert (account.sunk, account.missing) == (10_000, 0)
    assert await partition.keys_left() == {"meta"}


async def test_numbers_beyond_fifty_three_bits_of_digits_stay_exact(
    store: Store, unique: str
) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=2)
    top = 2**53 - 1
    await partition.take([Item(top - 1, "a", 0)])
    committed = await partition.take([Item(top, "a", 0)], now=top)
    assert committed.pending == 1
    [claim] = await partition.claim()
    assert claim.window.id.endswith(f"/{top - 1}")
    assert (claim.window.record.first_seq, claim.window.record.last_seq) == (top - 1, top)


@pytest.mark.parametrize(
    "kind", ["open", "deadlines", "closed", "ready", "refs", "segment_sizes", "dead"]
)
async def test_a_key_of_another_type_is_refused_before_anything_is_written(
    store: Store, unique: str, kind: str
) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=1)
    assert await partition.writer.acquire() == 0
    before = await store.redis.hgetall(partition.writer.keys.meta)
    del before[b"time"]
    key = getattr(partition.writer.keys, kind)
    await store.redis.set(key, "not sinfer's")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await partition.take([Item(1, "a", 0)])
    after = await store.redis.hgetall(partition.writer.keys.meta)
    del after[b"time"]
    assert after == before
    assert await partition.keys_left() == {"meta", key.rpartition(":")[2]}


async def test_a_lease_renewed_between_two_tries_of_a_commit_stores_it_once(
    store: Store, unique: str
) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=10)
    await partition.take([])
    commit = Commit(partition.planner.plan([Item(1, "a", 0).entry], 0), b"", counts={"fetched": 1})
    await partition.writer.commit(commit)
    assert await partition.writer.acquire() == 0
    await partition.writer.commit(commit)
    account = await read_account(store, partition.scope)
    assert (account.fetched, account.buffered, account.missing) == (1, 1, 0)


async def test_a_commit_that_arrives_late_is_not_taken_for_the_next_one(
    store: Store, unique: str
) -> None:
    """A writer got no answer, began again from what was stored, and then its commit arrived."""
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=10)
    await partition.take([])
    delayed = Commit(partition.planner.plan([Item(1, "a", 0).entry], 0), b"1")
    again = PartitionWriter(store, partition.scope, owner="a", lease_ms=60_000)
    assert await again.acquire() == 0
    state = await again.load()
    await partition.writer.commit(delayed)
    assert state.source is None
    other = Commit(partition.planner.plan([Item(2, "a", 0).entry], 0), b"2")
    with pytest.raises(PositionError):
        await again.commit(other)
    assert (await again.load()).source == b"1"


async def test_a_slow_clock_is_found_out_by_the_store(store: Store, unique: str) -> None:
    """A window is not opened long after its end; shorter delays than a second do not matter."""
    partition = Partition(store, Scope("p", unique, ">"), type="tumbling", size="20ms")
    now = await store.now_ms()
    with pytest.raises(WindowConflictError) as conflict:
        await partition.take([Item(1, "a", 0)], now - 5_000)
    assert conflict.value.window_ids == ()
    assert abs(conflict.value.now_ms - now) < 4_000
    assert (await partition.take([Item(1, "a", 0)], now - 50)).pending == 0


async def test_many_due_windows_are_closed_in_portions(store: Store, unique: str) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=9, max_wait="1ms")
    now = await store.now_ms()
    await partition.take([Item(n, f"k{n}", 0) for n in range(1, 13)], now)
    schedule = Schedule(store)
    closed: list[int] = []
    while sum(closed) < 12:
        closing = await schedule.close_due(partition.scope, limit=5)
        closed.append(closing.closed)
        if sum(closed) < 12:
            assert closing.next_due_ms <= now + 1
    assert [n for n in closed if n] == [5, 5, 2]
    assert len(await partition.claim()) == 12
