"""The window store on a real server: from commit to completion, and who is refused."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from sinfer.errors import PositionError, StaleTokenError, WindowConflictError
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadEntry
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import WindowSpec


@pytest.fixture
def scope(unique: str) -> Scope:
    return Scope("p", unique, "in.{odd}")


def planner_for(scope: Scope, **spec: object) -> Planner:
    return make_planner(TypeAdapter(WindowSpec).validate_python(spec), scope.window_prefix)


def entries(*sequences: int) -> list[Entry]:
    return [Entry(Message(b"m%d" % n, "s", None, n, n), "k/{1}", n) for n in sequences]


async def writer_for(
    store: Store, scope: Scope, owner: str = "a", *, tracks_first: bool = False
) -> PartitionWriter:
    writer = PartitionWriter(store, scope, owner=owner, lease_ms=5000, tracks_first=tracks_first)
    while await writer.acquire():
        pass
    return writer


async def test_a_window_goes_from_commit_through_claim_to_nothing(
    store: Store, scope: Scope
) -> None:
    writer = await writer_for(store, scope)
    planner = planner_for(scope, type="count", count=3)
    plan = planner.plan(entries(1, 2, 3, 4), 0)
    committed = await writer.commit(Commit(plan, b"state", counts={"fetched": 4}))
    planner.apply(plan)
    assert (committed.pending, committed.hint) == (1, 1)

    claims = PartitionClaims(store, scope)
    [claim], left = await claims.claim(10, lease_ms=5000, hinted=1)
    assert left == 0
    assert claim.attempt == 1
    [messages] = await claims.read([claim])
    assert [message.data for message in messages] == [b"m1", b"m2", b"m3"]
    assert await claims.complete([Completion(claim, {"sunk": 3})]) == [True]
    assert await claims.complete([Completion(claim, {"sunk": 3})]) == [False]

    state = await writer.load()
    assert state.source == b"state"
    assert [record.count for record in state.windows.values()] == [1]
    counts = await store.redis.hmget(writer.keys.meta, ["fetched", "sunk"])
    assert counts == [b"4", b"3"]
    left_keys = [key async for key in store.redis.scan_iter(match=f"*{scope.task}*")]
    kept = [key for key in left_keys if b":ask:" not in key]
    assert len(kept) == 4  # meta, open, and the segment of the open window with its members


async def test_a_commit_that_is_repeated_changes_nothing(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    plan = planner_for(scope, type="count", count=10).plan(entries(1, 2), 0)
    commit = Commit(plan, b"s", counts={"fetched": 2})
    await writer.commit(commit)
    await writer.commit(commit)  # as after an answer that never came
    assert await store.redis.hget(writer.keys.meta, "fetched") == b"2"


async def test_a_batch_that_does_not_follow_is_refused(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    writer.commits = 7
    plan = planner_for(scope, type="count", count=10).plan(entries(1), 0)
    with pytest.raises(PositionError):
        await writer.commit(Commit(plan, b"s"))


async def test_a_writer_whose_lease_another_took_is_refused(store: Store, scope: Scope) -> None:
    first = PartitionWriter(store, scope, owner="a", lease_ms=1)
    await first.acquire()
    second = await writer_for(store, scope, "b")
    plan = planner_for(scope, type="count", count=10).plan(entries(1), 0)
    with pytest.raises(StaleTokenError):
        await first.commit(Commit(plan, b"s"))
    assert (await second.commit(Commit(plan, b"s"))).pending == 0


async def test_beat_closes_by_time_and_the_writer_plans_again(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    planner = planner_for(scope, type="count", count=10, max_wait=0.05)
    now = await store.now_ms()
    plan = planner.plan(entries(1), now)
    committed = await writer.commit(Commit(plan, b"s"))
    planner.apply(plan)
    assert committed.next_due_ms == now + 50

    schedule = Schedule(store)
    while not (closing := await schedule.close_due(scope)).closed:
        pass
    assert closing.hint == 1
    plan = planner.plan(entries(2), now)  # by a clock that is slow
    with pytest.raises(WindowConflictError) as conflict:
        await writer.commit(Commit(plan, b"s"))
    planner.forget(conflict.value.window_ids)
    await writer.commit(Commit(planner.plan(entries(2), closing.now_ms), b"s"))


async def test_dead_letters_without_a_copy_are_seen_with_what_is_unfinished(
    store: Store, scope: Scope
) -> None:
    writer = await writer_for(store, scope)
    keys = PartitionKeys(scope)

    async def last_of_each() -> tuple[DeadEntry | None, DeadEntry | None]:
        unfinished = await writer.unfinished(with_dead=True)
        return unfinished.copied, unfinished.uncopied

    assert await last_of_each() == (None, None)
    first = await store.ask(store.redis.xadd(keys.dead, {"letter": b""}))
    last = await store.ask(store.redis.xadd(keys.dead, {"letter": b""}))
    assert await last_of_each() == (None, DeadEntry.of(last))
    await store.redis.hset(keys.meta, "mirrored", first)
    assert await last_of_each() == (DeadEntry.of(first), DeadEntry.of(last))
    await store.redis.hset(keys.meta, "mirrored", last)
    for _ in range(2):
        assert await last_of_each() == (DeadEntry.of(last), None)
    await store.redis.xdel(keys.dead, first, last)
    assert await last_of_each() == (DeadEntry.of(last), None)
    await store.redis.delete(keys.meta)
    with pytest.raises(StaleTokenError):
        await writer.unfinished(with_dead=True)


async def test_a_worker_past_its_lease_cannot_complete(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    await writer.commit(Commit(planner_for(scope, type="count", count=1).plan(entries(1), 0), b""))
    claims = PartitionClaims(store, scope)
    [stalled], _ = await claims.claim(1, lease_ms=1)
    while not (await Schedule(store).close_due(scope)).expired:
        pass
    assert await claims.claim(1, lease_ms=5000) == ([], 0)
    assert claims.suspected == 1
    [taken], _ = await claims.claim(9, lease_ms=5000, alone=True)
    assert (taken.attempt, taken.deaths) == (1, 1)
    assert await claims.renew([stalled, taken], lease_ms=5000) == [False, True]
    assert await claims.complete([Completion(stalled)]) == [False]
    assert await claims.complete([Completion(taken)]) == [True]


async def test_windows_whose_lease_ran_out_are_claimed_alone(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    plan = planner_for(scope, type="count", count=1).plan(entries(1, 2, 3, 4, 5, 6), 0)
    await writer.commit(Commit(plan, b""))
    claims = PartitionClaims(store, scope)
    died, _ = await claims.claim(3, lease_ms=1)
    while (await Schedule(store).close_due(scope)).expired < 3:
        died, _ = died, 0
        if await store.redis.hlen(claims.keys.deaths) == 3:
            break
    others, left = await claims.claim(9, lease_ms=60_000)
    assert {c.window.id for c in others}.isdisjoint(c.window.id for c in died)
    assert (len(others), left, claims.suspected) == (3, 0, 3)
    [first], _ = await claims.claim(9, lease_ms=60_000, alone=True)
    assert (first.attempt, first.deaths, first.excused > 0) == (1, 1, True)
    assert claims.suspected == 2
    await claims.release(first)
    assert claims.suspected == 2
    [again], _ = await claims.claim(9, lease_ms=60_000, alone=True)
    assert again.deaths == 1
    assert await claims.complete([Completion(again)]) == [True]
    assert await store.redis.hlen(claims.keys.deaths) == 2


async def test_what_an_attempt_stored_is_there_for_the_next(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    await writer.commit(Commit(planner_for(scope, type="count", count=1).plan(entries(1), 0), b""))
    claims = PartitionClaims(store, scope)
    [claim], _ = await claims.claim(1, lease_ms=5000)
    assert await claims.store_output(claim, output=b"rows", sinks=["sql-1"])
    assert await claims.release(claim)
    assert not await claims.store_output(claim, output=b"other")
    [again], _ = await claims.claim(1, lease_ms=5000)
    stored = await claims.read_output(again)
    assert stored.output == b"rows"
    assert stored.sinks == {"sql-1"}


async def test_a_partition_of_which_nothing_was_read_yet_has_no_position(
    store: Store, scope: Scope
) -> None:
    writer = await writer_for(store, scope)
    await writer.commit(Commit(planner_for(scope, type="count", count=3).plan((), 0), b""))
    assert (await writer.load()).source is None


async def test_a_worker_from_before_redis_was_wiped_cannot_complete_a_window_of_the_same_name(
    store: Store, scope: Scope
) -> None:
    claims = PartitionClaims(store, scope)

    async def close_and_claim(owner: str) -> Claim:
        writer = await writer_for(store, scope, owner)
        plan = planner_for(scope, type="count", count=2).plan(entries(1, 2), 0)
        await writer.commit(Commit(plan, b"s", counts={"fetched": 2}))
        [claim], _ = await claims.claim(1, lease_ms=5000)
        return claim

    before = await close_and_claim("a")
    left = [key async for key in store.redis.scan_iter(match=f"*{scope.task}*")]
    await store.redis.delete(*left)
    after = await close_and_claim("b")
    assert before.window.id == after.window.id
    assert await claims.complete([Completion(before)]) == [False]
    assert await claims.renew([before], lease_ms=5000) == [False]
    assert await claims.complete([Completion(after)]) == [True]


async def test_a_window_past_its_time_that_beat_has_not_closed_yet_is_not_finished(
    store: Store, scope: Scope
) -> None:
    writer = await writer_for(store, scope, tracks_first=True)
    planner = planner_for(scope, type="tumbling", size="1s")
    now_ms = await store.now_ms()
    for sequence, at_ms in ((7, now_ms), (8, now_ms + 5000)):
        plan = planner.plan(entries(sequence), at_ms)
        await writer.commit(Commit(plan, b"s"))
        planner.apply(plan)
    assert (await writer.unfinished()).first_seq == 7


async def test_what_is_unfinished_is_not_told_of_a_store_that_was_wiped(
    store: Store, scope: Scope
) -> None:
    writer = await writer_for(store, scope, tracks_first=True)
    plan = planner_for(scope, type="count", count=2).plan(entries(1, 2), 0)
    await writer.commit(Commit(plan, b"s"))
    assert (await writer.unfinished()).first_seq == 1
    left = [key async for key in store.redis.scan_iter(match=f"*{scope.task}*")]
    await store.redis.delete(*left)
    with pytest.raises(StaleTokenError):
        await writer.unfinished()


async def test_a_quiet_writer_notices_that_the_store_went_back(store: Store, scope: Scope) -> None:
    writer = await writer_for(store, scope)
    before = await store.redis.dump(writer.keys.meta) or b""
    await writer.commit(Commit(planner_for(scope, type="count", count=2).plan((), 0), b"s"))
    assert await writer.acquire() == 0
    await store.redis.restore(writer.keys.meta, 0, before, replace=True)
    with pytest.raises(StaleTokenError):
        await writer.acquire()
