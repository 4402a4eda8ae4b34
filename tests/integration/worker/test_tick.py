"""One bad partition, or a bad key of beat's own, stops no tick and hides nothing from people."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sinfer.embedded.servers import RedisServer
from sinfer.operations.audit import audit
from sinfer.operations.metrics import SinferCollector
from sinfer.operations.status import broken_index, standing
from sinfer.store import keys
from sinfer.store.boards.partition_faults import FaultBoard
from sinfer.store.boards.pauses import Pause, PauseBoard
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from sinfer.worker.claim_loop import work_on
from sinfer.worker.runtime import Runtime
from sinfer.worker.tick import tick
from tests.support.host import LoneHost
from tests.support.until import until
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration

HEALTHY = [Scope("p", "healthy", f"s.{n}") for n in range(2)]
BAD = Scope("p", "bad", "s.in")

Damage = Callable[[Redis, PartitionKeys], Awaitable[Any]]


async def wrong_type(redis: Redis, of: PartitionKeys) -> None:
    await redis.delete(of.deadlines)
    await redis.set(of.deadlines, "no sorted set")


async def unreadable_field(redis: Redis, of: PartitionKeys) -> None:
    await redis.hset(of.meta, mapping={"hint_until": "soon"})


async def unreadable_partitions(redis: Redis, of: PartitionKeys) -> None:
    await redis.hset(of.meta, "partitions", "not/a/scope/at/all")
    await redis.zadd(of.awaiting, {"w": 1})


DAMAGES: list[Damage] = [wrong_type, unreadable_field, unreadable_partitions]


class World:
    """A worker's runtime, two healthy partitions and one that a test damages."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store = runtime.store
        self.schedule = Schedule(self.store)
        self.sent: dict[Scope, int] = {}
        self.url = ""

    async def fill(self, scope: Scope) -> None:
        """A partition with one window that is due by time."""
        writer = PartitionWriter(self.store, scope, owner="w", lease_ms=60_000)
        await writer.acquire()
        await writer.load()
        spec = window_spec(type="count", count=10, max_wait=0.001)
        planner = make_planner(spec, scope.window_prefix)
        now_ms = await self.store.now_ms()
        plan = planner.plan([Entry(Message(b"1", "s", None, 1, now_ms), "k", now_ms)], now_ms)
        committed = await writer.commit(Commit(plan, b"", counts={"fetched": 1}))
        await self.schedule.register(scope)
        assert committed.next_due_ms
        await self.schedule.announce(scope)

    async def tick(self) -> dict[str, int]:
        with suppress(ResponseError):
            await self.store.redis.hdel(keys.CLOCK, "tick_until")
        return await tick(self.runtime)

    async def tick_until(self, holds: Callable[[], bool]) -> None:
        async def ticked() -> bool:
            if not holds():
                await self.tick()
            return holds()

        await until(ticked)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with RedisServer() as server:
        monkeypatch.setattr(Store, "from_settings", lambda: Store(server.url))
        host = LoneHost()
        runtime = Runtime(host, work_on)
        world = World(runtime)
        world.url, world.sent = server.url, host.hints.sent
        yield world
        runtime.close()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_partition_that_cannot_be_closed_holds_up_no_other_and_is_told(
    world: World, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        for scope in (BAD, *HEALTHY):
            await world.fill(scope)
        await damage(world.store.redis, PartitionKeys(BAD))
        with caplog.at_level(logging.ERROR, "sinfer.worker.tick"):
            await world.tick_until(lambda: set(HEALTHY) <= world.sent.keys())
            for _ in range(20):  # it does not eat the ticks that follow, nor fill the log
                await world.tick()
        await world.schedule.announce(BAD)  # as its ingestor does with each commit
        await world.tick()
        due_ms = await world.store.redis.zscore(keys.DUE, str(BAD))
        assert due_ms is not None
        assert due_ms > await world.store.now_ms(), "it does not stay in the way of others"
        told = [r for r in caplog.records if "cannot be looked after" in r.getMessage()]
        assert len(told) == 1
        assert str(BAD) in told[0].getMessage()
        fault = (await FaultBoard(world.store).read())[str(BAD)]
        assert fault.failures == 1
        assert BAD not in world.sent

        [bad, healthy] = await standing(world.store, sorted([BAD, *HEALTHY]))
        assert any("beat cannot look after it since" in text for text in bad.trouble)
        assert not any("beat cannot" in text for text in healthy.trouble)
        assert healthy.total("waiting") == 2
        audited = {found.scope: found for found in await audit(world.store, [BAD, *HEALTHY])}
        assert all(audited[scope].is_right for scope in HEALTHY)

    world.runtime.call(run())


def test_it_is_looked_after_again_when_it_is_mended(world: World) -> None:
    async def run() -> None:
        await world.fill(BAD)
        redis, names = world.store.redis, PartitionKeys(BAD)
        await redis.hset(names.meta, "hint_until", "soon")
        async with asyncio.timeout(20):
            while not await FaultBoard(world.store).read():
                await world.tick()
        await redis.hset(names.meta, "hint_until", "0")
        await world.tick_until(lambda: BAD in world.sent)
        assert not await FaultBoard(world.store).read()

    world.runtime.call(run())


def test_names_that_are_no_partitions_are_told_and_harm_nobody(world: World) -> None:
    async def run() -> None:
        redis = world.store.redis
        for scope in HEALTHY:
            await world.fill(scope)
        await redis.sadd(keys.PARTITIONS, "nonsense", b"\xff/x")
        for name in (b"nonsense", b"\xff/x"):
            await redis.zadd(keys.DUE, {name: 0})
        await world.tick_until(lambda: set(HEALTHY) <= world.sent.keys())
        assert await redis.zscore(keys.DUE, "nonsense") is None
        assert await world.schedule.partitions() == HEALTHY
        told = await broken_index(world.store)
        assert [found.task for found in told] == ["\\xff/x", "nonsense"]
        assert all(keys.PARTITIONS in found.trouble[0] for found in told)

    world.runtime.call(run())


@pytest.mark.parametrize("key", [keys.DUE, keys.FAULTS, keys.CLOCK])
def test_a_key_of_beat_that_holds_something_else_stops_nothing(world: World, key: str) -> None:
    async def run() -> None:
        for scope in HEALTHY:
            await world.fill(scope)
        await world.store.redis.delete(key)
        await world.store.redis.set(key, "of another type, and never expires")
        await world.tick_until(lambda: set(HEALTHY) <= world.sent.keys())

    world.runtime.call(run())


@pytest.mark.parametrize("value", ["9999999999999", "soon"])
def test_a_time_that_no_tick_has_set_keeps_no_tick_off(world: World, value: str) -> None:
    async def run() -> None:
        for scope in HEALTHY:
            await world.fill(scope)
        fields = ("tick_until", "sweep_until", "repair_until")
        await world.store.redis.hset(keys.CLOCK, mapping=dict.fromkeys(fields, value))

        async def are_sent() -> bool:
            await tick(world.runtime)
            return set(HEALTHY) <= world.sent.keys()

        await until(are_sent)

    world.runtime.call(run())


def test_a_partition_that_cannot_be_read_at_all_hides_no_other(world: World) -> None:
    async def run() -> None:
        for scope in (BAD, *HEALTHY):
            await world.fill(scope)
        names = PartitionKeys(BAD)
        await world.store.redis.hset(names.meta, mapping={"fetched": "many", "source": "x"})
        scopes = sorted([BAD, *HEALTHY])
        [bad, healthy] = await standing(world.store, scopes)
        assert any("cannot be read" in text for text in bad.trouble)
        assert healthy.total("fetched") == 2
        audited = {found.scope: found for found in await audit(world.store, scopes)}
        assert not audited[BAD].is_right
        assert "cannot be read" in audited[BAD].problems[0]
        assert all(audited[scope].is_right for scope in HEALTHY)

    world.runtime.call(run())
    families = {f.name: f for f in SinferCollector(lambda: Store(world.url)).collect()}
    assert {s.labels["task"] for s in families["sinfer_fetched"].samples} == {"bad", "healthy"}


def test_a_pause_that_cannot_be_read_pauses_what_it_names_and_nothing_else(world: World) -> None:
    async def run() -> None:
        await world.store.redis.hset(keys.PAUSED, mapping={"p/bad": b"\xff", b"\xfe": b"{}"})
        board = PauseBoard(world.store)
        await board.pause("p", "third", Pause("by hand", 1))
        await board.refresh(at_once=True)
        assert board.of("p", "healthy") is None
        unreadable = board.of("p", "bad")
        assert unreadable is not None
        assert "cannot be read" in unreadable.reason
        assert await board.resume("p", "bad")
        await board.refresh(at_once=True)
        assert board.of("p", "bad") is None

    world.runtime.call(run())
