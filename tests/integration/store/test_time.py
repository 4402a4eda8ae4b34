"""The time of the store never goes back and never stands still, whatever Redis' clock does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sinfer.embedded.servers import RedisServer
from sinfer.operations.preflight.servers import check_store
from sinfer.operations.status import standing
from sinfer.store.boards.endpoints import EndpointState, Place
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, StoredLetter
from sinfer.store.keys import CLOCK, EndpointKeys
from sinfer.store.schedule import Closing, Schedule, Turn
from sinfer.store.store_time import TIME_FIELDS, store_time, told
from sinfer.store.work.claim import Claim, Completion
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.integration.store.manual_store import ManualStore
from tests.support.window_reference import Item

HOUR_MS = 3_600_000


@pytest.fixture
async def manual(redis_server: RedisServer, unique: str) -> AsyncIterator[ManualStore]:
    store = ManualStore(redis_server.url, f"clock:{unique}")
    await store.advance(0)
    yield store
    await store.aclose()


async def look(store: ManualStore, partition: Partition) -> Closing:
    """What beat does."""
    return await Schedule(store).close_due(partition.scope)


async def after(store: ManualStore, ms: int) -> None:
    """Let so much time pass; ahead of Redis' clock it takes a seventh more."""
    await store.advance(-(-ms * 8 // 7))


async def test_when_the_clock_goes_back_an_hour_all_goes_on_in_its_own_time(
    manual: ManualStore, unique: str
) -> None:
    partition = Partition(manual, Scope("p", unique, ">"), type="count", count=2, max_wait="10s")
    await partition.take([Item(n, "a", 0) for n in range(1, 6)], manual.time_ms)
    (leased, released), _ = await partition.claims.claim(2, lease_ms=30_000)
    due_ms = await partition.claims.release(released, wait_ms=5_000)
    assert due_ms == manual.time_ms + 5_000
    await manual.advance(-HOUR_MS)
    assert (await look(manual, partition)).wait_ms == 5_000
    await after(manual, 5_000)
    assert (await look(manual, partition)).now_ms == due_ms
    [again] = await partition.claim()
    assert (again.window.id, again.attempt) == (released.window.id, 2)
    assert again.token > max(leased.token, released.token)
    await after(manual, 5_000)
    assert (await look(manual, partition)).closed == 1  # the window that was open, by max_wait
    await after(manual, 20_000)
    assert (await look(manual, partition)).expired == 1
    assert await partition.claims.renew([leased], lease_ms=1) == [False]
    assert {c.window.id for c in await partition.claim()} >= {leased.window.id}


async def test_a_clock_that_was_ahead_for_a_moment_leaves_nothing_standing(
    manual: ManualStore, unique: str
) -> None:
    partition = Partition(manual, Scope("p", unique, ">"), type="count", count=2, max_wait="10s")
    await partition.take([Item(1, "a", 0)], manual.time_ms)
    await manual.advance(HOUR_MS)
    assert (await look(manual, partition)).closed == 1
    await manual.advance(1_000 - HOUR_MS)
    now_ms = await partition.claims.now_ms()
    assert now_ms == manual.time_ms + HOUR_MS - 1_000
    await partition.take([Item(2, "b", 0)], now_ms)
    [first] = await partition.claim()
    await partition.claims.renew([first], lease_ms=1_000)
    await after(manual, 1_000)
    assert (await look(manual, partition)).expired == 1
    await after(manual, 9_000)
    assert (await look(manual, partition)).closed == 1


async def test_a_clock_that_was_behind_for_a_moment_ends_no_lease_early(
    manual: ManualStore, unique: str
) -> None:
    partition = Partition(manual, Scope("p", unique, ">"), type="count", count=1)
    await partition.take([Item(1, "a", 0)], manual.time_ms)
    (claim,), _ = await partition.claims.claim(1, lease_ms=30_000)
    await manual.advance(-HOUR_MS)
    await look(manual, partition)
    await manual.advance(HOUR_MS + 1_000)
    assert (await look(manual, partition)).expired == 0
    assert await partition.claims.renew([claim], lease_ms=30_000) == [True]
    assert await partition.claims.now_ms() - manual.time_ms < 5_000


async def test_the_lead_is_lost_again_and_then_the_clock_is_followed(
    manual: ManualStore, unique: str
) -> None:
    partition = Partition(manual, Scope("p", unique, ">"), type="count", count=1)
    await partition.take([Item(1, "a", 0)], manual.time_ms)
    await manual.advance(-60_000)
    for _ in range(16):
        assert await partition.claims.now_ms() > manual.time_ms
        await manual.advance(30_001)
    assert await partition.claims.now_ms() == manual.time_ms
    assert await manual.redis.hmget(partition.writer.keys.meta, TIME_FIELDS) == [
        b"%d" % manual.time_ms, None,
    ]  # fmt: skip


async def test_beat_keeps_ticking_and_sweeping_when_the_clock_goes_back(
    manual: ManualStore, unique: str
) -> None:
    scope = Scope("p", unique, ">")
    schedule = Schedule(manual)

    async def tick() -> Turn | None:
        return await schedule.tick(pause_ms=100, limit=100_000, sweep=10_000)

    first = await tick()
    assert first is not None
    assert first.also == {"sweep"}
    assert await tick() is None
    await schedule.announce(scope, 2_000)
    await manual.advance(-HOUR_MS)
    assert await tick() is None
    await after(manual, 100)
    second = await tick()
    assert second is not None
    assert not second.also
    assert scope not in {partition.scope for partition in second.due}
    await after(manual, 1_900)
    third = await tick()
    assert third is not None
    assert scope in {partition.scope for partition in third.due}
    await after(manual, 8_000)
    fourth = await tick()
    assert fourth is not None
    assert fourth.also == {"sweep"}


async def test_a_breaker_and_the_places_of_an_endpoint_follow_their_own_time(
    manual: ManualStore, unique: str
) -> None:
    keys = EndpointKeys(unique)

    async def may_call(caller: str) -> list[bytes | int]:
        answer: list[bytes | int] = await manual.run(
            "ask_endpoint_breaker", [keys.clock, keys.breaker], [caller, 5_000]
        )
        return answer

    async def is_given(holder: str) -> bool:
        state, place = EndpointState(manual, unique, 5_000), Place(holder, "p/t", 1, learns=False)
        return (await state.take_place(place, due_ms=0, wait_ms=100))[0]

    assert await is_given("one")
    await manual.run("note_endpoint_failure", [keys.clock, keys.breaker], [1, 1_000, 30_000])
    await manual.advance(-HOUR_MS)
    assert await may_call("one") == [b"open", 1_000]
    assert not await is_given("two")
    await after(manual, 1_000)
    assert await may_call("one") == [b"half", 0]
    assert (await may_call("two"))[0] == b"open"
    await after(manual, 5_000)
    assert await may_call("two") == [b"half", 0]  # who had the trial never came back
    assert await is_given("two")


async def test_dead_letters_are_stored_under_the_time_of_their_partition(
    manual: ManualStore, unique: str
) -> None:
    partition = Partition(manual, Scope("p", unique, ">"), type="count", count=1)
    await partition.take([Item(n, "a", 0) for n in range(1, 4)], manual.time_ms)
    claims = await partition.claim()
    letters = DeadLetterStore(manual)

    async def give_up(claim: Claim) -> StoredLetter:
        [[message]] = await partition.claims.read([claim])
        letter = DeadLetter(message, "inference", "bad", 0, claim.window.id)
        assert await partition.claims.complete([Completion(claim, {"dead": 1}, [letter])]) == [True]
        return [stored async for stored in letters.after(partition.scope, "-")][-1]

    before = await give_up(claims[0])
    assert before.stored_ms == manual.time_ms
    await manual.advance(-HOUR_MS)
    behind = await give_up(claims[1])
    assert behind.stored_ms == before.stored_ms
    await after(manual, 2_000)
    assert (await give_up(claims[2])).stored_ms == before.stored_ms + 2_000


async def test_a_forgotten_partition_is_not_made_again_by_a_look(store: Store, unique: str) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=1)
    await Schedule(store).close_due(partition.scope)
    await partition.claim()
    await partition.claims.now_ms()
    await Schedule(store).hint_again(partition.scope)
    assert await partition.keys_left() == set()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["step", "jump"]),
            st.integers(0, 20_000),
            st.integers(-400_000_000, 400_000_000),
        ),
        max_size=30,
    )
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_it_never_goes_back_and_always_flows(
    redis_server: RedisServer, moves: list[tuple[str, int, int]]
) -> None:
    async def run() -> None:
        """Steps are time that passes, jumps are someone who sets the clock."""
        store = ManualStore(redis_server.url, "clock:of-a-history")
        key = "sinfer:time-of-a-history"
        await store.redis.delete(key)
        await store.advance(0)
        before = 0
        try:
            for kind, forwards_ms, by_ms in moves:
                is_step = kind == "step"
                await store.advance(forwards_ms if is_step else by_ms)
                fields: Any = await store.redis.hmget(key, TIME_FIELDS)
                now = int(await store.run("tell_time", [key], [1]))
                assert now == told(store.time_ms, *fields)
                assert now >= max(before, store.time_ms)
                if is_step and before:
                    assert now - before >= forwards_ms * 7 // 8 - 1 or now == store.time_ms
                    assert now - before <= forwards_ms + 1
                before = now
        finally:
            await store.aclose()

    asyncio.run(run())


async def test_status_and_check_say_that_clocks_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with RedisServer() as server:
        store = Store(server.url)
        assert (await store_time(store)).problems == []
        findings = {f.what: f async for f in check_store(store)}
        assert findings["redis clock"].verdict == "ok"
        # As after a clock that was an hour ahead, or that went back by an hour.
        await store.redis.hset(CLOCK, "time", await store.now_ms() + HOUR_MS)
        findings = {f.what: f async for f in check_store(store)}
        assert findings["redis clock"].verdict == "warning"
        assert "3600 s ahead of Redis' clock" in findings["redis clock"].text
        partition = Partition(store, Scope("p", "t", ">"), type="count", count=1)
        await partition.take([Item(1, "a", 0)])
        [task] = await standing(store, [partition.scope])
        assert task.clocks == [findings["redis clock"].text]
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + 90_000_000_000)
        problems = (await store_time(store)).problems
        assert any("90 s behind the clock of this machine" in problem for problem in problems)
        await store.aclose()
