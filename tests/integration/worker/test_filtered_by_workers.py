"""Code that was deployed between ingest and processing filters out what ingest counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from sinfer import Message, Result, Window
from sinfer.embedded.servers import RedisServer
from sinfer.operations.audit import audit
from sinfer.operations.locate import Finder
from sinfer.store.connection import Store
from sinfer.store.history.ledger import read_ledger
from sinfer.store.partition.account import Account
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.exact_account import read_account
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.contents import unpack_members
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from tests.integration.worker.test_process import Bench, Judging, Record
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration

SPEC = window_spec(type="sliding", size="3s", slide="1s", time="event")
"""Each message is in three windows, but for the first and the last two of a stream."""


class Deployed(Judging):
    """Filters out and gives up what its newest version does.

    Attributes:
        filters: what ``preprocess`` filters out.
        fails: what ``build_results`` gives up.
    """

    filters: ClassVar[set[int]] = set()
    fails: ClassVar[set[int]] = set()

    def preprocess(self, message: Message) -> int | None:
        number = int(message.data)
        return None if number in self.filters else number

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [
            Result.failed("no good") if n in self.fails else Result(y)
            for n, y in zip(window, response, strict=True)
        ]


class Sliding(Bench):
    """A partition of sliding windows: message n is in second n."""

    async def feed_seconds(
        self, count: int, *, spec: Any = SPEC, upto_s: int | None = None
    ) -> None:
        """Store messages 1 to ``count``, and close every window that they are in."""
        writer = PartitionWriter(self.store, self.scope, owner="w", lease_ms=60_000)
        await writer.acquire()
        await writer.load()
        planner = make_planner(spec, self.scope.window_prefix)
        for n in range(1, count + 1):
            message = Message(b"%d" % n, "in.a", None, n, n)
            plan = planner.plan([Entry(message, "k", n * 1000)], 0)
            await writer.commit(Commit(plan, b"", counts={"fetched": 1}))
            planner.apply(plan)
        plan = planner.close_all("drain")
        await writer.commit(Commit(plan, b""))
        await Schedule(self.store).register(self.scope)

    async def process(self, processor: Any, windows: int) -> list[str]:
        """Process so many windows, the oldest first; returns their ids."""
        done = []
        for _ in range(windows):
            [claim] = await self.claim(1, lease_ms=60_000)
            [messages] = await self.claims.read([claim])
            await processor.process(claim, messages)
            done.append(claim.window.id)
            [found] = await audit(self.store, [self.scope])
            assert found.is_right, found
        return done

    async def account(self) -> Account:
        return await read_account(self.store, self.scope)


@pytest.fixture
async def bench(redis_server: RedisServer, unique: str) -> AsyncIterator[Sliding]:
    store = Store(redis_server.url)
    bench = Sliding(store, unique)
    Deployed.filters, Deployed.fails = set(), set()
    yield bench
    await bench.aclose()
    await store.aclose()


async def test_of_sliding_windows_each_message_counts_once_however_many_filter_it(
    bench: Sliding, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten messages in twelve windows; two of them are filtered out of all of theirs."""
    Deployed.filters = {4, 7}
    sink = Record()
    await bench.feed_seconds(10)
    waiting = await bench.claims.waiting()
    assert waiting == 12
    await bench.process(bench.processor(Deployed, sink=sink), waiting)
    account = await bench.account()
    assert (account.fetched, account.filtered, account.sunk, account.dead) == (10, 2, 8, 0)
    assert (account.missing, account.buffered, account.in_flight) == (0, 0, 0)
    assert account.results == sum(sink.written.values()) == 8 * 3
    assert caplog.text.count("preprocess filters out") == 6
    assert not await bench.store.redis.hgetall(bench.claims.keys.segment_sizes)


async def test_code_that_changes_between_the_windows_of_a_message_filters_it_and_says_where(
    bench: Sliding,
) -> None:
    """Message 4 has results of its first window; then a version comes that filters it out."""
    await bench.feed_seconds(10)
    sink = Record()
    processor = bench.processor(Deployed, sink=sink)
    await bench.process(processor, 4)
    Deployed.filters = {4}
    await bench.process(processor, await bench.claims.waiting())
    account = await bench.account()
    assert (account.fetched, account.filtered, account.sunk, account.missing) == (10, 1, 9, 0)
    states = sorted(found.state for found in await Finder(bench.store, bench.scope).find(4))
    assert states == ["done", "filtered", "filtered"]
    places = await Finder(bench.store, bench.scope).find(4)
    assert all(place.sinks == [] for place in places if place.state == "filtered")
    noted = [
        (finished.entry.count, list(unpack_members(finished.entry.filtered)))
        async for finished in read_ledger(bench.store, bench.scope)
    ]
    assert sorted(filtered for _, filtered in noted if filtered) == [[4], [4]]


async def test_what_one_window_gives_up_and_another_filters_is_dead_once(bench: Sliding) -> None:
    await bench.feed_seconds(6)
    processor = bench.processor(Deployed, sink=Record())
    Deployed.fails = {3, 4}
    await bench.process(processor, 4)
    Deployed.fails, Deployed.filters = set(), {3, 4, 5}
    await bench.process(processor, await bench.claims.waiting())
    account = await bench.account()
    assert (account.fetched, account.dead, account.filtered, account.sunk) == (6, 2, 1, 3)
    assert account.missing == 0
    assert sorted(letter.message.stream_seq for letter in await bench.dead()) == [3, 4]


async def test_a_worker_that_dies_with_a_window_filters_nothing_twice(bench: Sliding) -> None:
    """The windows are tried again by another worker, under the answers that were kept."""
    Deployed.filters = {2, 3}
    await bench.feed_seconds(4)
    writing = asyncio.Event()

    class Dying(Record):
        async def write(self, results: Any) -> None:
            writing.set()
            await asyncio.Event().wait()

    left = await bench.claims.waiting()
    await bench.break_off(bench.processor(Deployed, sink=Dying()), writing)
    await bench.lose_leases()
    sink = Record()
    await bench.settle(bench.processor(Deployed, sink=sink))
    account = await bench.account()
    assert left == 6
    assert (account.fetched, account.filtered, account.sunk, account.missing) == (4, 2, 2, 0)
    assert set(sink.written.values()) == {1}


async def test_windows_that_fire_again_count_what_is_filtered_once(bench: Sliding) -> None:
    spec = window_spec(
        type="tumbling", size="5s", time="event", allowed_lateness="1m", late="update"
    )
    Deployed.filters = {2, 8}
    await bench.feed_seconds(10, spec=spec)
    await bench.process(bench.processor(Deployed, sink=Record()), await bench.claims.waiting())
    account = await bench.account()
    assert (account.fetched, account.filtered, account.sunk, account.missing) == (10, 2, 8, 0)
