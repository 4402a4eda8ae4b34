"""The version of a pipeline is kept with its windows, and those of other versions are counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from sinfer import InferPipeline, StaticTaskManager
from sinfer.ingest.handover import change_over
from sinfer.operations.preflight import preflight
from sinfer.operations.status import TaskStanding, standing
from sinfer.products.product import Product
from sinfer.store.connection import Store
from sinfer.store.partition import waiting_versions as module
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.waiting_versions import waiting_versions
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.types.message import Message
from sinfer.windows.plan import Entry
from sinfer.windows.planner import WindowOrigin
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import SlidingWindow
from tests.integration.worker.bench import Bench, Judging, Record

pytestmark = pytest.mark.integration


class First(Judging):
    version: ClassVar[str] = "1"


class Second(Judging):
    version: ClassVar[str] = "2"


class Nameless(Judging):
    """Names no version."""


@pytest.fixture
async def bench(store: Store, unique: str) -> AsyncIterator[Bench]:
    bench = Bench(store, unique)
    yield bench
    await bench.aclose()


class Ingest:
    """Puts numbers into windows of ten, as an ingestor that runs one pipeline does."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._seq = 0

    async def take(self, pipeline: type[Judging], numbers: int) -> None:
        """Begin with a pipeline, and put so many numbers into windows."""
        scope = self._bench.scope
        writer = PartitionWriter(self._bench.store, scope, owner="w", lease_ms=60_000)
        await writer.acquire()
        await Schedule(self._bench.store).register(scope)
        made: InferPipeline[Any, Any] = pipeline(self._bench.config())
        change = change_over(scope, await writer.load(), made, incarnation="i")
        await writer.commit(Commit(change.planner.plan((), 0), b"s"), settings=change.settings)
        for _ in range(numbers):
            self._seq += 1
            message = Message(b"%d" % self._seq, "in.a", None, self._seq, self._seq)
            plan = change.planner.plan([Entry(message, "k", 0)], 0)
            await writer.commit(Commit(plan, b"s", counts={"fetched": 1}))
            change.planner.apply(plan)
        await writer.release()

    async def status(self) -> TaskStanding:
        [found] = await standing(self._bench.store, [self._bench.scope])
        return found


async def test_windows_are_known_by_the_version_that_opened_them(bench: Bench) -> None:
    ingest = Ingest(bench)
    await ingest.take(First, 25)
    await ingest.take(Second, 17)  # the third window is of the first, and closes under the second
    assert await waiting_versions(bench.store, bench.scope) == {"1": 3, "2": 2}
    status = await ingest.status()
    assert status.versions == "windows are opened by version '2'; 3 of version '1' wait"
    assert status.partitions[0].versions == {"1": 3, "2": 2}


async def test_those_that_another_version_processes_are_counted(bench: Bench) -> None:
    ingest = Ingest(bench)
    await ingest.take(First, 20)
    await ingest.take(Second, 10)
    await bench.try_once(bench.processor(Second, sink=Record()))
    status = await ingest.status()
    assert status.partitions[0].of_other_version == 2
    assert status.versions == (
        "windows are opened by version '2'; 2 were processed by another version than they were"
        " opened by"
    )


async def test_code_that_names_no_version_is_none(bench: Bench) -> None:
    ingest = Ingest(bench)
    await ingest.take(Nameless, 10)
    assert (await ingest.status()).versions == ""
    await ingest.take(Second, 10)
    assert (await ingest.status()).versions == (
        "windows are opened by version '2'; 1 of no version wait"
    )
    await ingest.take(Nameless, 0)
    assert (await ingest.status()).versions == (
        "windows are opened by no version; 1 of version '2' wait"
    )
    await bench.try_once(bench.processor(Nameless, sink=Record()))
    assert (await ingest.status()).partitions[0].of_other_version == 1


async def test_a_preflight_tells_what_waits_for_other_code(bench: Bench) -> None:
    await Ingest(bench).take(First, 20)
    task = bench.config()
    told = {}
    for pipeline in (First, Second):
        product = Product("p", tasks=StaticTaskManager([task]), pipeline=pipeline)
        found = [finding async for finding in preflight(bench.store, [(product, task)])]
        told[pipeline] = [f.text for f in found if f.what.endswith(" window")]
    assert told[First] == []
    assert told[Second] == [
        "windows wait that other code opened: 2 of version '1'; this code, version '2', will"
        " process them"
    ]


async def test_of_many_windows_the_number_is_an_estimate(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_READ", 30)
    ingest = Ingest(bench)
    for pipeline in (First, Second):
        await ingest.take(pipeline, 300)
    found = await waiting_versions(bench.store, bench.scope)
    assert sum(found.values()) == pytest.approx(60, abs=1)
    assert 10 <= found["1"] <= 50


def test_a_sliding_window_is_of_the_version_that_its_first_items_came_under() -> None:
    spec = SlidingWindow(type="sliding", size="4s", slide="2s", time="event")
    planner = make_planner(spec, "t", origin=WindowOrigin(version="1"))
    entries = [Entry(Message(b"", "s", None, n, n), "k", 1000 * n) for n in range(1, 9)]
    planner.apply(planner.plan(entries[:3], 0))
    records = dict(planner.open_windows())
    later = make_planner(
        spec, "t", windows=records, watermark_ms=planner.watermark_ms,
        origin=WindowOrigin(version="2"),
    )  # fmt: skip
    plan = later.plan(entries[3:], 0)
    assert [(w.record.end_ms, w.record.version) for w in plan.closed] == [
        (4000, "1"), (6000, "1"), (8000, "2"),
    ]  # fmt: skip
