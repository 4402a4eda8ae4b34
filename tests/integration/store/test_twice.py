"""A client that gets no answer in time asks again, and the script may have run already: then it
changes nothing more, and says the same. Every script is asked twice here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.operations.rebuild import find_aside
from sinfer.store.boards.latency_curves import LatencyCurves
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.keys import EndpointKeys
from sinfer.store.lua import SCRIPTS, Argument
from sinfer.store.partition.index_repair import repair_index
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.requeue import requeue
from sinfer.store.work.set_aside import put_back, take_aside
from sinfer.windows.dead_letters import DeadLetter, Origin
from sinfer.windows.ids import Scope
from sinfer.windows.latency_curve import CallSums
from sinfer.windows.reprocessing import Reprocessing
from tests.integration.store.conftest import Partition
from tests.integration.store.manual_store import ManualStore
from tests.support.window_reference import Item

NAMES = {*SCRIPTS}

FOR_LOGS_ALONE = {"close_due_windows": {0, 1}, "ready_waiting_windows": {0}}
"""Places of answers that only say how much this very run did."""


class TwiceStore(ManualStore):
    """Runs every script twice, with a clock that stands still.

    Attributes:
        ran: the scripts that were run.
    """

    def __init__(self, url: str, clock: str) -> None:
        super().__init__(url, clock)
        self.ran: set[str] = set()

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        asked: str | None = None,
    ) -> Any:
        first = await super().run(script, keys, args, asked=asked)
        before = await self._state()
        again = await super().run(script, keys, args, asked=asked)
        assert await self._state() == before, script
        assert _told(script, again) == _told(script, first), script
        self.ran.add(script)
        return first

    async def _state(self) -> dict[bytes, Any]:
        """Everything that is stored, but for the answers that are kept."""
        redis: Any = self.redis
        names = [
            key async for key in redis.scan_iter(f"*{self._clock}*", count=10_000)
            if b":ask:" not in key
        ]  # fmt: skip
        return {name: await redis.dump(name) for name in sorted(names)}


def _told(script: str, answer: Any) -> Any:
    if script == "commit_batch":
        return [{b"applied": b"ok"}.get(answer[0], answer[0]), *answer[1:]]
    if not isinstance(answer, list):
        return answer
    left_out = FOR_LOGS_ALONE.get(script, set())
    return [word for place, word in enumerate(answer) if place not in left_out]


@pytest.fixture
async def twice(redis_server: RedisServer, unique: str) -> AsyncIterator[TwiceStore]:
    # The name is in every key that the tests use, so that only these are looked at.
    store = TwiceStore(redis_server.url, unique)
    await store.advance(0)
    yield store
    await store.aclose()


def letters_of(messages: Sequence[Any], claim: Claim) -> list[DeadLetter]:
    return [DeadLetter(message, "inference", "bad", 0, claim.window.id) for message in messages]


async def test_every_script_that_is_run_twice_says_and_does_the_same(
    twice: TwiceStore, unique: str
) -> None:
    await windows_to_their_ends(twice, Scope("p", unique, "in.>"))
    await windows_that_wait_for_others(twice, unique)
    await windows_that_lost_something(twice, unique)
    await beat_and_endpoints(twice, unique)
    assert twice.ran == NAMES - {"write_durability_mark"}  # which WAITAOF needs on one connection


async def windows_to_their_ends(store: TwiceStore, scope: Scope) -> None:
    partition = Partition(store, scope, type="count", count=2, max_wait="10s")
    schedule, letters = Schedule(store), DeadLetterStore(store)
    committed = await partition.take([Item(n, "a", 0) for n in range(1, 8)], store.time_ms)
    assert committed.hint == 3
    await store.advance(11_000)
    assert (await schedule.close_due(scope)).hint == 4  # the hints for three are long forgotten
    assert await partition.claims.now_ms() == store.time_ms
    first, second, third, fourth = await partition.claim()
    assert await partition.claims.renew([first], lease_ms=5_000) == [True]
    assert await partition.claims.store_output(first, output=b"rows")
    assert await partition.claims.release(second, wait_ms=50, away={"model": "m"}, back=["s"])
    assert await partition.claims.release(third, counts=False)
    [messages, others] = await partition.claims.read([first, fourth])
    dead = Completion(first, {"dead": 2}, letters_of(messages, first), b"entry", 10)
    assert await partition.claims.complete([dead]) == [True]
    dead = Completion(fourth, {"dead": 1}, letters_of(others, fourth))
    assert await partition.claims.complete([dead]) == [True]
    stored = [found async for found in letters.of_partition(scope, LetterFilter())]
    assert len(stored) == 3
    assert await letters.replace(stored[0], stored[0].letter)
    assert await letters.purge(scope, [stored[1].entry]) == 1
    origin = Origin("a", None, None, "count", 0, 1)
    again = Reprocessing("redrive", "w")
    redriven = [stored[2].letter.message]
    assert await requeue(
        store, scope, origin, again, redriven, incarnation="i", letters=[stored[2].entry]
    )
    assert await requeue(store, scope, origin, again, redriven, incarnation="i")
    await store.advance(60)
    await schedule.hint_again(scope)
    claims = await partition.claim()
    assert len(claims) == 4
    await partition.complete(claims)
    assert await partition.writer.forget() == 0
    writer = Partition(store, scope, type="count", count=1).writer
    assert await writer.acquire() == 0
    assert await store.run("renew_writer_lease", *writer.renewal) == [1]
    await writer.note_hand(b"hand", 1)
    await writer.note_hand(b"", 0)
    await Partition(store, scope, type="count", count=1).writer.seize()
    await writer.release()


async def windows_that_wait_for_others(store: TwiceStore, unique: str) -> None:
    pair = [Scope("q", unique, f"in.{n}") for n in range(2)]
    spec = {"type": "tumbling", "size": 10, "time": "event"}
    first, second = (Partition(store, scope, pair, **spec) for scope in pair)
    await second.take([Item(1, "a", 0)], store.time_ms)
    sealed = await first.take([Item(1, "a", 0), Item(2, "a", 15_000)], store.time_ms)
    assert sealed.awaiting == 1
    await second.take([Item(2, "a", 15_000)], store.time_ms)
    await store.advance(1_000)
    assert (await Schedule(store).close_due(first.scope)).made_ready == 1


async def windows_that_lost_something(store: TwiceStore, unique: str) -> None:
    redis: Any = store.redis
    count = Partition(store, Scope("r", unique, ">"), type="count", count=1)
    await count.take([Item(n, "a", 0) for n in range(1, 4)], store.time_ms)
    for claim in await count.claim(2):
        await redis.delete(count.writer.keys.segment(claim.window.parts[0].segment))
        assert await count.claims.whole([claim]) == []
    one, other = await find_aside(store, [count.scope])
    assert await put_back(store, one, {})
    assert await take_aside(store, other, lease_ms=1_000) is not None
    await redis.delete(count.writer.keys.ready)
    assert await repair_index(store, count.scope) == 2
    shared = Partition(
        store, Scope("s", unique, ">"), type="sliding", size=4, slide=2, time="event"
    )
    await shared.take([Item(n, "a", n * 1000) for n in range(1, 9)], store.time_ms)
    await redis.delete(shared.writer.keys.refs)
    await redis.hset(count.writer.keys.open, "unreadable", b"no record")
    await count.writer.load()
    assert await redis.hlen(count.writer.keys.open) == 0
    assert await repair_index(store, shared.scope)


async def beat_and_endpoints(store: TwiceStore, unique: str) -> None:
    schedule, scope = Schedule(store), Scope("p", unique, "in.>")
    await schedule.announce(scope)
    turn = await schedule.tick(pause_ms=100, limit=10_000, sweep=1_000)
    assert turn is not None
    assert turn.also == {"sweep"}
    [due] = [partition for partition in turn.due if partition.scope == scope]
    await schedule.reschedule(due, (await schedule.close_due(scope)).wait_ms)
    keys = EndpointKeys(unique)
    breaker = [keys.clock, keys.breaker]
    for count in (1, 2):
        _, opened = await store.run(
            "note_endpoint_failure", breaker, [2, 100, 1000], asked=keys.asked(f"{count}")
        )
        assert opened == (count == 2)
    assert (await store.run("ask_endpoint_breaker", breaker, ["me", 500]))[0] == b"open"
    await store.advance(100)
    assert (await store.run("ask_endpoint_breaker", breaker, ["me", 500]))[0] == b"half"
    assert (await store.run("ask_endpoint_breaker", breaker, ["you", 500]))[0] == b"open"
    assert await store.run("end_endpoint_trial", [keys.breaker], ["you"]) == 0
    assert await store.run("end_endpoint_trial", [keys.breaker], ["me"]) == 1
    board = RefusalBoard(store, "p", unique)
    assert (await board.note("model", "w", items=3, alike="400")).windows == 1
    slots = [keys.clock, keys.slots, keys.waiting, keys.learned]
    for name, taken in (("me", 1), ("you", 0)):
        words: list[Argument] = [1, 0, 500, "", 0, "", 1, f"{name} p/t", 0, 500, ""]
        assert await store.run("move_endpoint_slots", slots, words) == [taken, 1]
    words = [1, 0, 500, "me p/t", 5, "ok", 1, "", 0, 0, ""]
    assert await store.run("move_endpoint_slots", slots, words) == [0, 1]
    assert await store.redis.zrange(keys.slots, 0, -1) == [b"you p/t"]
    looked = [f"{unique}:{name}" for name in ("meta", "open", "closed", "unfinished", "dead")]
    assert await store.run("look_at_unfinished_windows", looked, [1, "-", 10])
    curves = LatencyCurves(store)
    for weight in (1.0, 2.0):
        assert (await curves.note(unique, CallSums(1.0, 10.0, 5.0))).weight == weight
    signs = [keys.clock, f"alive:{unique}"]
    for sign, before in (("a", ""), ("b", "a"), ("", "b")):
        await store.run("give_sign_of_life", signs, [500, 1000, sign, before])
    consumers = [f"consumers:{unique}"]
    for taker, before, holder in (
        ("a", "", b"a"),
        ("b", "", b"a"),
        ("b", "a", b"b"),
        ("", "a", b"b"),
        ("", "b", b""),
    ):
        assert await store.run("take_consumer", consumers, ["c", taker, before]) == holder


async def test_a_commit_that_was_stored_before_renews_the_lease(store: Store, unique: str) -> None:
    partition = Partition(store, Scope("p", unique, ">"), type="count", count=1)
    await partition.take([Item(1, "a", 0)])
    meta = partition.writer.keys.meta
    batch = partition.writer._batch.commit
    assert batch is not None
    await store.redis.hset(meta, "lease_until", 1)
    committed = await partition.writer.commit(batch)
    until = int(await store.redis.hget(meta, "lease_until") or 0)
    assert until == committed.now_ms + 60_000
    assert committed.hint == 1  # nobody heard of it the first time
