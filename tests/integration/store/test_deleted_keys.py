"""Keys that Redis evicted or a person deleted: nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sinfer.errors import WindowConflictError
from sinfer.operations.audit import audit
from sinfer.operations.rebuild import discard, find_aside
from sinfer.store.connection import Store
from sinfer.store.history.ledger import read_ledger
from sinfer.store.partition.index_repair import repair_index
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.set_aside import put_back
from sinfer.types.message import pack_chunk
from sinfer.windows.dead_letters import unpack_dead_letter
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.support.accounts import read_account
from tests.support.window_reference import Item

pytestmark = pytest.mark.integration

NOW = 4_000_000_000_000
"""Long after Redis' time, so that no window is due by the clock."""

COUNT = {"type": "count", "count": 4}
WAITING = {"type": "count", "count": 4, "max_wait": "1h"}
SLIDING = {"type": "sliding", "size": 4, "slide": 2, "time": "event"}
UPDATED = {
    "type": "tumbling", "size": 4, "time": "event", "late": "update", "allowed_lateness": 100,
}  # fmt: skip

Make = Callable[..., Partition]


@pytest.fixture
def make(store: Store, unique: str) -> Make:
    def made(**spec: Any) -> Partition:
        return Partition(store, Scope("p", unique, "in.{odd}"), **spec)

    return made


def items(first: int, last: int, key: str = "all") -> list[Item]:
    """One item each second."""
    return [Item(seq, key, seq * 1000) for seq in range(first, last + 1)]


def redis_of(partition: Partition) -> Any:
    """Redis as anyone may use it."""
    return partition.store.redis


async def settled(partition: Partition, step: Callable[[], Awaitable[object]]) -> None:
    """Do what an ingestor does, which plans again without windows that are gone."""
    while True:
        try:
            await step()
            return
        except WindowConflictError as conflict:
            partition.planner.forget(conflict.window_ids)


async def whole(partition: Partition) -> list[tuple[Claim, list[int]]]:
    """Claim what workers may process."""
    found = await partition.claims.whole(await partition.claim())
    return [(claim, [message.stream_seq for message in messages]) for claim, messages in found]


async def asides(partition: Partition) -> dict[str, list[int]]:
    """The sequences that windows which were set aside have lost."""
    found = await find_aside(partition.store, [partition.scope])
    return {aside.window.id.rpartition("all/")[2]: aside.damage.sequences for aside in found}


async def test_a_window_whose_segment_is_gone_is_set_aside_by_name(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 8), NOW)
    first = next(iter(await redis_of(partition).hkeys(partition.writer.keys.closed))).decode()
    await redis_of(partition).delete(partition.writer.keys.segment(first))

    [found] = await audit(partition.store, [partition.scope])
    assert not found.is_right
    assert found.account.missing == 4
    [damaged] = found.damaged
    assert (damaged.window, damaged.state) == (first, "closed")
    assert "sequences 1-4" in "".join(found.problems) or "sequences 5-8" in "".join(found.problems)

    done = await whole(partition)
    assert len(done) == 1
    await partition.complete([claim for claim, _ in done])
    assert await partition.claim() == []  # and nobody tries it again
    [found] = await audit(partition.store, [partition.scope])
    assert [d.state for d in found.damaged] == ["set aside"]
    assert (found.account.sunk, found.account.missing) == (4, 4)
    assert await partition.writer.pending() == 0  # it holds no others up


async def test_each_sliding_window_that_needs_a_lost_pane_is_set_aside(make: Make) -> None:
    partition = make(**SLIDING)
    await partition.take(items(1, 9), NOW)
    names = await redis_of(partition).hkeys(partition.writer.keys.refs)
    pane = next(n.decode() for n in names if b"/4000/" in n)
    await redis_of(partition).delete(partition.writer.keys.segment(pane))
    done = await whole(partition)
    assert all(4 not in seqs and 5 not in seqs for _, seqs in done)
    await partition.complete([claim for claim, _ in done])
    assert await asides(partition) == {"2000/0": [4, 5], "4000/0": [4, 5]}
    [found] = await audit(partition.store, [partition.scope])
    assert found.account.missing == 2  # each message once, however many windows miss it


async def test_an_open_window_whose_segment_vanished_is_noticed_before_it_closes(
    make: Make,
) -> None:
    partition = make(**WAITING)
    await partition.take(items(1, 2), NOW)
    [name] = await redis_of(partition).hkeys(partition.writer.keys.open)
    segment = partition.writer.keys.segment(name.decode())
    await redis_of(partition).delete(segment)
    [found] = await audit(partition.store, [partition.scope])
    assert [(d.state, d.damage.sequences) for d in found.damaged] == [("open", [1, 2])]
    assert found.account.missing == 2
    committed = await partition.take(items(3, 3), NOW)
    assert committed.lost == 1
    [found] = await audit(partition.store, [partition.scope])
    assert [(d.state, d.damage.sequences) for d in found.damaged] == [("open", [1, 2])]
    await partition.take(items(4, 4), NOW)
    assert await whole(partition) == []
    assert await asides(partition) == {"1": [1, 2]}


@pytest.mark.parametrize(
    ("change", "lost", "reason"),
    [
        ([b""], [1, 2], "2 of 4"),
        ([b"garbage"], [1, 2], "cannot be read"),
        ([pack_chunk([])], [1, 2], "2 of 4"),
        ([pack_chunk([items(1, 1)[0].entry.message])], [2], "1 of 4"),
        ([pack_chunk([i.entry.message for i in items(1, 3)])], [], "do not belong"),
        ([pack_chunk([i.entry.message for i in items(8, 9)])], [1, 2], "do not belong"),
    ],
)  # fmt: skip
async def test_a_chunk_that_is_not_what_was_stored_is_noticed(
    make: Make, change: list[bytes], lost: list[int], reason: str
) -> None:
    partition = make(**WAITING)
    await partition.take(items(1, 2), NOW)
    [name] = await redis_of(partition).hkeys(partition.writer.keys.open)
    await partition.take(items(3, 4), NOW)
    segment = partition.writer.keys.segment(name.decode())
    await redis_of(partition).lset(segment, 0, change[0])
    assert await whole(partition) == []
    [aside] = await find_aside(partition.store, [partition.scope])
    assert aside.damage.sequences == lost
    assert reason in aside.damage.reason


async def test_a_segment_of_another_type_harms_its_own_window_alone(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 8), NOW)
    redis, keys = redis_of(partition), partition.writer.keys
    first = min(await redis.hkeys(keys.closed)).decode()
    await redis.delete(keys.segment(first))
    await redis.set(keys.segment(first), "text")
    [found] = await audit(partition.store, [partition.scope])
    assert [d.window for d in found.damaged] == [first]
    assert [len(seqs) for _, seqs in await whole(partition)] == [4]
    [aside] = await find_aside(partition.store, [partition.scope])
    lost = aside.damage.sequences
    assert len(lost) == 4
    chunk = [item.entry.message for item in items(lost[0], lost[-1])]
    assert await put_back(partition.store, aside, {(first, 1): chunk})
    assert [seqs for _, seqs in await whole(partition)] == [lost]


async def test_a_payload_that_was_changed_is_noticed(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 4), NOW)
    [name] = await redis_of(partition).hkeys(partition.writer.keys.closed)
    segment = partition.writer.keys.segment(name.decode())
    messages = [item.entry.message for item in items(1, 4)]
    messages[0] = type(messages[0])(b"longer than it was", stream_seq=1)
    await redis_of(partition).lset(segment, 0, pack_chunk(messages))
    assert await whole(partition) == []
    [aside] = await find_aside(partition.store, [partition.scope])
    assert "not those that were recorded" in aside.damage.reason


@pytest.mark.parametrize("spec", [COUNT, SLIDING, UPDATED])
async def test_a_window_that_is_given_up_is_counted_message_by_message(
    make: Make, spec: dict[str, Any]
) -> None:
    partition = make(**spec)
    await partition.take(items(1, 12), NOW)
    await partition.drain()
    fetched = (await read_account(partition.store, partition.scope)).fetched
    redis, keys = redis_of(partition), partition.writer.keys
    for name in await redis.keys(keys.segment("*").replace("{", "[{]", 1)):
        await redis.delete(name)
    assert await whole(partition) == []
    for aside in await find_aside(partition.store, [partition.scope]):
        assert await discard(partition.store, aside, ledger=100)
    account = await read_account(partition.store, partition.scope)
    assert (account.fetched, account.dead, account.missing) == (fetched, fetched, 0)
    letters = [unpack_dead_letter(f[b"letter"]) for _, f in await redis.xrange(keys.dead)]
    assert sorted(letter.message.stream_seq for letter in letters) == list(range(1, 13))
    noted = [f.entry async for f in read_ledger(partition.store, partition.scope)]
    assert {seq for entry in noted for seq in entry.sequences} == set(range(1, 13))
    [found] = await audit(partition.store, [partition.scope])
    assert found.is_right, found
    assert "members" not in await partition.keys_left()


async def test_what_nobody_can_name_any_more_is_counted_all_the_same(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 4), NOW)
    redis, keys = redis_of(partition), partition.writer.keys
    [name] = await redis.hkeys(keys.closed)
    await redis.delete(keys.segment(name.decode()), keys.members)
    [found] = await audit(partition.store, [partition.scope])
    assert found.account.missing == 4
    assert await whole(partition) == []
    [aside] = await find_aside(partition.store, [partition.scope])
    assert (aside.damage.sequences, aside.damage.unknown) == ([], 4)
    assert await discard(partition.store, aside, ledger=0) == 4
    [found] = await audit(partition.store, [partition.scope])
    assert (found.account.dead, found.is_right) == (4, True)


@pytest.mark.parametrize("spec", [COUNT, WAITING, SLIDING, UPDATED])
@pytest.mark.parametrize(
    "kind",
    [
        "open", "closed", "ready", "leases", "tokens", "attempts", "refs", "segment_sizes",
        "members", "deadlines", "awaiting", "aside", "ledger", "dead", "outages",
    ],
)  # fmt: skip
async def test_whatever_key_is_deleted_all_is_processed_or_the_audit_says_so(
    make: Make, spec: dict[str, Any], kind: str
) -> None:
    partition = make(**spec)
    redis, keys = redis_of(partition), partition.writer.keys
    await Schedule(partition.store).register(partition.scope)
    await partition.take(items(1, 5), NOW)
    await partition.take(items(6, 9), NOW)
    held = await partition.claim(1)
    await redis.delete(getattr(keys, kind))
    seen: set[int] = set()
    await settled(partition, lambda: partition.take(items(10, 13), NOW))
    for claim in held:  # its worker goes on as if nothing were
        [messages] = await partition.claims.read([claim])
        [done] = await partition.claims.complete([completion(claim)])
        seen |= {message.stream_seq for message in messages if done}
    await settled(partition, partition.drain)
    for _ in range(3):
        await repair_index(partition.store, partition.scope)
        if held:
            await redis.zadd(keys.leases, {held[0].window.id: 1}, xx=True)  # its lease runs out
        await Schedule(partition.store).close_due(partition.scope)
        for claim, sequences in await whole(partition):
            await partition.complete([claim])
            seen |= set(sequences)
    [found] = await audit(partition.store, [partition.scope])
    assert seen == set(range(1, 14)) or not found.is_right
    if kind in ("ready", "leases", "tokens", "attempts", "refs", "members", "awaiting", "aside",
                "ledger", "dead", "outages"):  # fmt: skip
        assert seen == set(range(1, 14))
        assert found.is_right, found.problems


def completion(claim: Claim) -> Any:
    return Completion(claim, {"sunk": claim.window.record.count})


async def test_an_open_window_that_beat_forgot_is_closed_all_the_same(make: Make) -> None:
    partition = make(type="count", count=100, max_wait="10ms")
    now = await partition.store.now_ms()
    await partition.take(items(1, 3), now=now)
    await redis_of(partition).delete(partition.writer.keys.deadlines)
    [found] = await audit(partition.store, [partition.scope])
    assert len(found.stranded) == 1
    assert await repair_index(partition.store, partition.scope) == 1
    schedule = Schedule(partition.store)
    while not (await schedule.close_due(partition.scope)).closed:
        pass
    assert [seqs for _, seqs in await whole(partition)] == [[1, 2, 3]]


async def test_dead_letters_that_vanish_are_missed(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 4), NOW)
    await redis_of(partition).delete(
        partition.writer.keys.segment(
            (await redis_of(partition).hkeys(partition.writer.keys.closed))[0].decode()
        )
    )
    await whole(partition)
    [aside] = await find_aside(partition.store, [partition.scope])
    await discard(partition.store, aside, ledger=0)
    await redis_of(partition).delete(partition.writer.keys.dead)
    [found] = await audit(partition.store, [partition.scope])
    assert (found.lost_letters, found.is_right) == (4, False)


async def test_a_window_that_is_put_back_twice_is_processed_once(make: Make) -> None:
    partition = make(**COUNT)
    await partition.take(items(1, 4), NOW)
    redis, keys = redis_of(partition), partition.writer.keys
    [name] = await redis.hkeys(keys.closed)
    await redis.delete(keys.segment(name.decode()))
    await whole(partition)
    [aside] = await find_aside(partition.store, [partition.scope])
    lost = {(name.decode(), 1): [item.entry.message for item in items(1, 4)]}
    assert await put_back(partition.store, aside, lost)
    assert not await put_back(partition.store, aside, lost)
    assert [seqs for _, seqs in await whole(partition)] == [[1, 2, 3, 4]]
