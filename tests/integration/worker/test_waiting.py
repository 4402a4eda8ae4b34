"""Windows that workers left alone, for a pause or a breaker, go on when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.products.product import Product
from sinfer.products.revisions import revision_of
from sinfer.store import keys
from sinfer.store.boards.pauses import Pause, PauseBoard
from sinfer.store.connection import Store
from sinfer.store.keys import CONFIG_FIELD, PartitionKeys
from sinfer.store.lua import HINT_MS
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Closing, Schedule
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from sinfer.worker import task_cache as catalogue
from sinfer.worker.claim_loop import drain, work_on
from sinfer.worker.endpoint_guard import EndpointGuard
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.runtime import Runtime
from tests.support.host import LoneHost
from tests.support.task_settings import Threshold, product_of, settings_of
from tests.support.until import until
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration

WINDOWS = 40
_LONG_MS = 3_600_000
_TELLING_MS = 1_000


class World:
    """A worker's runtime, and a partition whose windows hints are on their way for."""

    def __init__(self, runtime: Runtime, product: Product, task: Threshold) -> None:
        self.runtime = runtime
        self.product = product
        self.scope = Scope(product.name, task.id, "s.in")
        self.task = task
        self.store = runtime.store
        self.schedule = Schedule(self.store)
        self.board = PauseBoard(self.store)
        self.meta = PartitionKeys(self.scope).meta

    async def fill(self) -> None:
        self._writer = PartitionWriter(self.store, self.scope, owner="w", lease_ms=60_000)
        await self._writer.acquire()
        await self._writer.load()
        self._planner = make_planner(window_spec(type="count", count=1), self.scope.window_prefix)
        self._messages = 0
        hint = await self.add(WINDOWS)
        await self.store.redis.hset(self.meta, CONFIG_FIELD, revision_of(self.task).pack())
        assert hint == WINDOWS
        await self.schedule.register(self.scope)
        await self.pretend_just_sent()

    async def add(self, windows: int) -> int:
        """Close so many windows; returns how many a message is to be sent for."""
        first, self._messages = self._messages + 1, self._messages + windows
        messages = [Message(b"%d" % n, "in.a", None, n, n) for n in range(first, first + windows)]
        plan = self._planner.plan([Entry(message, "k", 0) for message in messages], 0)
        committed = await self._writer.commit(Commit(plan, b"", counts={"fetched": windows}))
        return committed.hint

    async def pretend_just_sent(self) -> None:
        """As if hints counted as on their way for long, so that nothing depends on speed."""
        due_ms = await self.store.now_ms() + _LONG_MS
        await self.store.redis.hset(self.meta, "hint_until", due_ms)
        closing = await self.schedule.close_due(self.scope)
        assert (closing.hint, closing.next_due_ms) == (0, due_ms + 1)
        await self.store.redis.zadd(keys.DUE, {str(self.scope): closing.next_due_ms})

    async def due_ms(self) -> float:
        """When beat looks at the partition."""
        found: Any = await self.store.redis.zscore(keys.DUE, str(self.scope))
        return float(found)

    async def look_before(self, due_ms: float) -> None:
        """An earlier look, for whatever reason, sends nothing and knows when to look again."""
        closing = await self.schedule.close_due(self.scope)
        if closing.now_ms < due_ms:
            assert closing.hint == 0
            # The index was told a moment later how long to wait.
            assert due_ms - _TELLING_MS < closing.next_due_ms <= due_ms

    async def look_when_due(self) -> Closing:
        """What a tick finds as soon as the partition is due."""

        async def is_due() -> bool:
            return await self.store.now_ms() >= await self.due_ms()

        await until(is_due)
        return await self.schedule.close_due(self.scope)

    async def pause(self, task: str | None) -> None:
        pause = Pause("test", await self.store.now_ms(), "processing")
        await self.board.pause(self.scope.product, task, pause)

    async def until_some_are_done(self) -> None:
        async def are_some_done() -> bool:
            return await self.waiting() < WINDOWS

        await until(are_some_done)

    async def waiting(self) -> int:
        return await PartitionClaims(self.store, self.scope).waiting()

    def guard_elsewhere(self) -> EndpointGuard:
        """The endpoint's guard, as another process has it."""
        ready = ReadyTask(self.store, self.product, self.task)
        assert isinstance(ready.guard, EndpointGuard)
        return ready.guard


async def get_the_trial(guard: EndpointGuard) -> None:
    """Wait until the breaker lets this one call through."""

    async def is_through() -> bool:
        return not await guard.wait_ms()

    await until(is_through)
    assert guard.on_trial


@pytest.fixture
def world(
    redis_server: RedisServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(Store, "from_settings", lambda: Store(redis_server.url))
    product = product_of([], unique)
    monkeypatch.setattr(catalogue, "load_products", lambda _: ({product.name: product}, {}))
    inference = {
        "type": "python", "call": "tests.support.task_settings:upper", "breaker_failures": 1,
        "retry_base": "100ms", "retry_max": "100ms", "timeout": "10m",
    }  # fmt: skip
    task = Threshold.model_validate(settings_of("ex_1", inference=inference))
    runtime = Runtime(LoneHost(), work_on)
    world = World(runtime, product, task)
    runtime.call(world.fill())
    yield world
    runtime.close()


@pytest.mark.parametrize("whole_product", [False, True])
def test_with_the_end_of_a_pause_beat_sends_for_all_windows(
    world: World, whole_product: bool
) -> None:
    task = None if whole_product else world.scope.task

    async def run() -> None:
        await world.pause(task)
        await drain(world.runtime, world.scope, WINDOWS)
        assert await world.waiting() == WINDOWS
        assert await world.board.resume(world.scope.product, task)
        assert await world.due_ms() <= await world.store.now_ms()
        assert (await world.schedule.close_due(world.scope)).hint == WINDOWS

    world.runtime.call(run())


def test_a_worker_that_knew_of_the_pause_a_moment_ago_does_not_miss_its_end(world: World) -> None:
    async def run() -> None:
        await world.pause(None)
        await drain(world.runtime, world.scope, WINDOWS)
        assert world.runtime.pauses.stops_processing(world.scope.product, world.scope.task)
        await world.board.resume(world.scope.product, None)
        await drain(world.runtime, world.scope, WINDOWS)
        await world.until_some_are_done()

    world.runtime.call(run())


def test_when_the_breaker_lets_calls_through_beat_sends_for_all_windows(world: World) -> None:
    async def run() -> None:
        assert await world.guard_elsewhere().failed() > 0
        await drain(world.runtime, world.scope, WINDOWS)
        assert await world.waiting() == WINDOWS
        due_ms = await world.due_ms()
        assert due_ms < await world.store.now_ms() + HINT_MS
        await world.look_before(due_ms)
        assert (await world.look_when_due()).hint == WINDOWS
        await drain(world.runtime, world.scope, WINDOWS)
        await world.until_some_are_done()

    world.runtime.call(run())


def test_windows_that_wait_for_a_call_on_trial_elsewhere_are_sent_for_soon(world: World) -> None:
    async def run() -> None:
        elsewhere = world.guard_elsewhere()
        await elsewhere.failed()
        await get_the_trial(elsewhere)
        await drain(world.runtime, world.scope, WINDOWS)
        assert await world.waiting() == WINDOWS
        assert await world.due_ms() < await world.store.now_ms() + HINT_MS
        await elsewhere.succeeded()
        assert (await world.look_when_due()).hint == WINDOWS
        await drain(world.runtime, world.scope, WINDOWS)
        await world.until_some_are_done()

    world.runtime.call(run())


def test_a_worker_that_finds_no_window_leaves_the_call_on_trial_to_others(world: World) -> None:
    async def run() -> None:
        elsewhere = world.guard_elsewhere()
        claims, _ = await PartitionClaims(world.store, world.scope).claim(100, lease_ms=60_000)
        assert len(claims) == WINDOWS
        await elsewhere.failed()
        await get_the_trial(elsewhere)
        await elsewhere.not_tried()
        await drain(world.runtime, world.scope, WINDOWS)
        await get_the_trial(elsewhere)

    world.runtime.call(run())
