"""A task with several partitions: windows wait for the least watermark of those that are not idle.

partition 0   [1        )[   2          watermark 15: its first window is sealed
partition 1   [   3                     watermark 4
                                        ... until partition 1 gets to 10, or is idle
"""

from __future__ import annotations

import math

import pytest

from sinfer.store.connection import Store
from sinfer.store.partition.task_watermark import task_watermark
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.support.window_reference import Item

TUMBLING = {"type": "tumbling", "size": "10ms", "time": "event"}


@pytest.fixture
def scopes(unique: str) -> list[Scope]:
    return [Scope("p", unique, f"in.{n}") for n in range(2)]


@pytest.fixture
def pair(store: Store, scopes: list[Scope]) -> tuple[Partition, Partition]:
    first, second = (Partition(store, scope, scopes, **TUMBLING) for scope in scopes)
    return first, second


async def test_a_window_waits_for_the_other_partition(pair: tuple[Partition, Partition]) -> None:
    first, second = pair
    await second.take([Item(1, "a", 4)])
    committed = await first.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert (committed.pending, committed.awaiting, committed.hint) == (1, 1, 0)
    assert not await first.claim()
    await second.take([Item(2, "a", 9)])
    assert not await first.claim()
    await second.take([Item(3, "a", 10)])
    committed = await first.take([])
    assert (committed.awaiting, committed.hint) == (0, 1)
    [claim] = await first.claim()
    assert (claim.window.reason, claim.window.record.end_ms) == ("time", 10)


async def test_beat_makes_windows_ready_when_their_ingestor_is_gone(
    store: Store, pair: tuple[Partition, Partition]
) -> None:
    first, second = pair
    await second.take([Item(1, "a", 4)])
    committed = await first.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert committed.next_due_ms > 0
    schedule = Schedule(store)
    closing = await schedule.close_due(first.scope)
    assert (closing.made_ready, closing.hint) == (0, 0)
    assert closing.next_due_ms > closing.now_ms
    await second.take([Item(2, "a", 30)])
    closing = await schedule.close_due(first.scope)
    assert (closing.made_ready, closing.hint) == (1, 1)
    assert len(await first.claim()) == 1


async def test_a_partition_that_never_had_an_item_holds_the_others_back_until_it_is_idle(
    store: Store, scopes: list[Scope], pair: tuple[Partition, Partition]
) -> None:
    first, second = pair
    await first.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert await task_watermark(store, scopes) == -math.inf
    await second.take([])
    assert (await first.take([])).awaiting == 1
    await second.idle()
    assert await task_watermark(store, scopes) == 15
    assert (await first.take([])).awaiting == 0


async def test_when_all_are_idle_nothing_waits(
    store: Store, scopes: list[Scope], pair: tuple[Partition, Partition]
) -> None:
    first, second = pair
    await second.take([Item(1, "a", 4)])
    await first.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert (await first.idle()).awaiting == 1
    await second.idle()
    assert await task_watermark(store, scopes) == math.inf
    await Schedule(store).close_due(first.scope)
    reasons = [claim.window.reason for claim in await first.claim()]
    assert sorted(reasons) == ["idle", "time"]


async def test_an_item_wakes_an_idle_partition(
    store: Store, scopes: list[Scope], pair: tuple[Partition, Partition]
) -> None:
    first, second = pair
    await second.take([Item(1, "a", 4)])
    await second.idle()
    await second.take([Item(2, "a", 12)])
    await first.take([Item(1, "a", 0), Item(2, "a", 45)])
    assert await task_watermark(store, scopes) == 12


async def test_membership_and_lateness_follow_the_partition_s_own_watermark(
    pair: tuple[Partition, Partition],
) -> None:
    first, second = pair
    await second.take([Item(1, "a", 4)])
    committed = await first.take([Item(1, "a", 0), Item(2, "a", 15), Item(3, "a", 5)])
    assert committed.awaiting == 1
    assert await first.store.redis.hget(first.writer.keys.meta, "late") == b"1"


async def test_windows_that_a_count_closed_do_not_wait(store: Store, scopes: list[Scope]) -> None:
    first, _ = (Partition(store, scope, scopes, **TUMBLING, max_count=2) for scope in scopes)
    committed = await first.take([Item(1, "a", 0), Item(2, "a", 1)])
    assert (committed.awaiting, committed.hint) == (0, 1)


async def test_the_slowest_partition_waits_for_nobody(pair: tuple[Partition, Partition]) -> None:
    first, second = pair
    await first.take([Item(1, "a", 0), Item(2, "a", 95)])
    committed = await second.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert (committed.awaiting, committed.hint) == (0, 1)


async def test_one_partition_alone_seals_nothing(store: Store, scopes: list[Scope]) -> None:
    alone = Partition(store, scopes[0], scopes[:1], **TUMBLING)
    committed = await alone.take([Item(1, "a", 0), Item(2, "a", 15)])
    assert (committed.awaiting, committed.hint) == (0, 1)
    assert await store.redis.hget(alone.writer.keys.meta, "partitions") is None
