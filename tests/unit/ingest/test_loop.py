"""The loop of a partition over a source that a test writes: no server, nothing that takes time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.clock import ManualClock, SystemClock
from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.ingest.backpressure import MemoryPressure
from sinfer.ingest.caution import Caution
from sinfer.ingest.commit import Storing
from sinfer.ingest.ingestor import Ingestor
from sinfer.ingest.leases import LeaseKeeper
from sinfer.ingest.loop import IngestLoop
from sinfer.ingest.windower import Windower
from sinfer.local.memory import MemoryPartition
from sinfer.source.source import IDLE, Lost
from sinfer.store.boards.pauses import Pause, PauseBoard
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.support.fake_source import FakeSource, attached
from tests.support.host import NotedHints

NOW_MS = 1_700_000_000_000


class Numbers(InferPipeline[InferTaskConfig, int]):
    def preprocess(self, message: Message) -> int:
        return int(message.data)

    def build_request(self, window: Window[int]) -> Any:
        return list(window)

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return []


class Closing(Numbers):
    """A trigger of the product's own may be slow, so that few messages are planned at once."""

    def close_when(self, window: Any, item: int) -> bool:
        return False


class Site:
    """A partition of which only the source and the store are not what they are in production."""

    def __init__(self, store: Store, pipeline: type[Numbers], window: dict[str, Any]) -> None:
        self.task = InferTaskConfig.model_validate(
            {
                "id": "t",
                "source": {"stream": "S"},
                "window": window,
                "inference": {"type": "python", "call": "operator:index"},
                "sinks": [{"type": "log"}],
            }
        )
        self.pauses = PauseBoard(store)
        ingestor = Ingestor(
            store, NotedHints(), self.pauses, MemoryPressure(store), "me", LeaseKeeper(store)
        )
        scope = Scope("p", "t", ">")
        made = pipeline(self.task)
        self.clock = ManualClock(NOW_MS)
        self.memory = MemoryPartition(scope, self.clock)
        planner = make_planner(
            self.task.window,
            scope.window_prefix,
            close_when=made.close_when if made.overrides("close_when") else None,
        )
        self.windower = Windower(made, planner, self.clock, self.store)
        self.stopping = asyncio.Event()
        troubles = ingestor.troubles.of(str(scope))
        writer = PartitionWriter(store, scope, owner="me", lease_ms=1000)
        storing = Storing(
            writer, SystemClock(), ingestor.hints, Schedule(store), self.stopping, troubles
        )
        care: Any = None  # nothing is acknowledged when it is done
        careful: Any = None  # no writer has died
        self.caution = Caution(writer, careful, PartitionState(None, None, {}), 100)
        self.loop = IngestLoop(ingestor, self.task, writer, storing, self.clock, care)
        self.source = FakeSource((), self.stopping.set)

    async def store(self, commit: Commit) -> None:
        await self.memory.store(commit)
        self.source.events.append(f"store {commit.counts.get('fetched', 0)}")

    async def run(self) -> list[str]:
        await self.loop.run(self.windower, attached(self.source), self.caution)
        return self.source.events


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """Nothing listens there: nothing may be asked of it."""
    store = Store("redis://127.0.0.1:1")
    yield store
    await store.aclose()


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store, Numbers, {"type": "count", "count": 2})


async def test_a_batch_is_stored_before_it_is_acknowledged_and_the_next_is_read(site: Site) -> None:
    source = site.source
    source.give(source.batch(b"1", b"2", b"3"), source.batch(b"4", first_seq=4))
    assert await site.run() == [
        "next", "store 3", "ack 1-3", "next", "store 1", "ack 4-4", "next",
    ]  # fmt: skip
    assert site.memory.counts["fetched"] == 4


async def test_a_batch_without_messages_is_stored_as_any_other(site: Site) -> None:
    source = site.source
    source.give(source.batch(first_seq=9))
    assert await site.run() == ["next", "store 0", "ack 9-8", "next"]


async def test_a_batch_that_is_stored_in_parts_is_acknowledged_once_at_its_end(
    store: Store,
) -> None:
    site = Site(store, Closing, {"type": "count", "count": 1000})
    source = site.source
    source.give(source.batch(*[b"1"] * 40))
    assert await site.run() == ["next", "store 16", "store 24", "ack 1-40", "next"]


async def test_what_is_lost_is_restored_and_read_on(site: Site) -> None:
    source = site.source
    source.give(Lost("the server is silent"), source.batch(b"1"))
    assert await site.run() == [
        "next", "restore: the server is silent", "next", "store 1", "ack 1-1", "next",
    ]  # fmt: skip


async def test_nothing_is_acknowledged_that_could_not_be_stored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(commit: Commit) -> None:
        raise UnavailableError("Redis is gone")

    monkeypatch.setattr(site.windower, "_store", refuse)
    source = site.source
    source.give(source.batch(b"1", b"2"))
    with pytest.raises(UnavailableError):
        await site.run()
    assert source.events == ["next"]
    assert [message.stream_seq for message in site.loop.in_hand] == [1, 2]


async def test_a_lost_lease_ends_the_loop_before_the_next_read(site: Site) -> None:
    source = site.source
    batch = source.batch(b"1")
    ack = batch.ack

    async def ack_and_lose() -> None:
        assert ack is not None
        await ack()
        site.loop.fail(StaleTokenError("another writes"))

    batch.ack = ack_and_lose
    source.give(batch, source.batch(b"2", first_seq=2))
    with pytest.raises(StaleTokenError):
        await site.run()
    assert source.events == ["next", "store 1", "ack 1-1"]


@pytest.mark.parametrize("is_caught_up", [True, False])
async def test_an_idle_source_closes_windows_only_when_all_was_read(
    store: Store, is_caught_up: bool
) -> None:
    site = Site(store, Numbers, {"type": "tumbling", "size": "10s", "time": "event", "idle": "1ms"})
    source = site.source
    source.is_caught_up = is_caught_up
    source.give(source.batch(b"1"), IDLE)
    await site.run()
    assert site.memory.has_work == is_caught_up
    assert source.waits_s[1] <= 0.001


async def test_a_paused_partition_reads_nothing_until_it_is_woken(site: Site) -> None:
    source = site.source
    source.give(source.batch(b"1"))
    site.pauses.known["p/t"] = Pause("maintenance", NOW_MS)
    pulled: list[str] = []

    def resume() -> None:
        pulled.extend(source.events)
        site.pauses.known.clear()
        site.loop.wake()

    asyncio.get_running_loop().call_later(0.02, resume)
    events = await site.run()
    assert pulled == []
    assert events == ["next", "store 1", "ack 1-1", "next"]
