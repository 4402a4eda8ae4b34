"""Which message is the first that is not done, whatever becomes of the windows meanwhile."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition import unfinished_windows as module
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry, Plan
from sinfer.windows.planner import Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.records import unpack_closed, unpack_record
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration


class Partition:
    """A partition under a writer that tracks it.

    Attributes:
        writer: of the partition.
        planner: plans for it.
    """

    writer: PartitionWriter
    planner: Planner

    def __init__(self, store: Store, name: str, **spec: Any) -> None:
        self.store = store
        self.scope = Scope("p", name, ">")
        self.keys = PartitionKeys(self.scope)
        self.claims = PartitionClaims(store, self.scope)
        self._spec = window_spec(**spec)

    async def open(self, *, tracks_first: bool = True) -> None:
        """Another writer takes over."""
        self.writer = PartitionWriter(
            self.store, self.scope, owner="w", lease_ms=60_000, tracks_first=tracks_first
        )
        await self.writer.seize()
        state = await self.writer.load(may_be_lost=True)
        self.planner = make_planner(
            self._spec, self.scope.window_prefix, windows=state.windows,
            watermark_ms=state.watermark_ms,
        )  # fmt: skip

    async def take(self, seq: int, key: str, time_ms: int = 0, now_ms: int | None = None) -> None:
        now_ms = await self.store.now_ms() if now_ms is None else now_ms
        message = Message(b"x" * (seq % 5), "in", None, seq, seq)
        await self.store_plan(self.planner.plan([Entry(message, key, time_ms)], now_ms))

    async def store_plan(self, plan: Plan) -> None:
        await self.writer.commit(Commit(plan, b"s"))
        self.planner.apply(plan)

    async def complete(self, most: int) -> None:
        claims, _ = await self.claims.claim(most, lease_ms=60_000)
        await self.claims.complete([Completion(claim) for claim in claims])

    async def first(self) -> int | None:
        return (await self.writer.unfinished()).first_seq

    async def truly_first(self) -> int | None:
        """By all records."""
        redis: Any = self.store.redis
        opened = [unpack_record(blob) for blob in await redis.hvals(self.keys.open)]
        closed = [
            unpack_closed(name, value).record
            for name, value in (await redis.hgetall(self.keys.closed)).items()
        ]
        return min((record.first_seq for record in (*opened, *closed)), default=None)


async def test_a_window_counts_from_its_first_message_to_its_completion(
    store: Store, unique: str
) -> None:
    partition = Partition(store, unique, type="count", count=2)
    await partition.open()
    assert await partition.first() is None
    for seq, key in ((3, "a"), (4, "b"), (5, "b"), (7, "c")):
        await partition.take(seq, key)
        assert await partition.first() == 3
    await partition.complete(1)  # that of b
    assert await partition.first() == 3
    await partition.take(8, "a")
    assert await partition.first() == 3
    await partition.complete(1)
    assert await partition.first() == 7


async def test_windows_that_beat_closes_count_on(store: Store, unique: str) -> None:
    partition = Partition(store, unique, type="count", count=2, max_wait="1ms")
    await partition.open()
    await partition.take(3, "a")
    closing = await Schedule(store).close_due(partition.scope, hint_ms=1000)
    while not closing.closed:
        closing = await Schedule(store).close_due(partition.scope, hint_ms=1000)
    assert await partition.first() == 3
    await partition.complete(1)
    assert await partition.first() is None


async def test_an_earlier_message_counts_when_it_comes_late(store: Store, unique: str) -> None:
    partition = Partition(store, unique, type="count", count=10)
    await partition.open()
    await partition.take(9, "a")
    await partition.take(4, "a")
    assert await partition.first() == 4


@pytest.mark.parametrize("is_old", [False, True])
async def test_a_writer_that_takes_over_knows_what_others_left(
    store: Store, unique: str, is_old: bool
) -> None:
    partition = Partition(store, unique, type="count", count=2)
    await partition.open()
    await partition.take(3, "a")
    await partition.open(tracks_first=not is_old)
    for seq, key in ((4, "b"), (5, "b"), (6, "c")):
        await partition.take(seq, key)
    await partition.open()
    assert await partition.first() == 3
    await partition.take(7, "a")
    await partition.complete(2)
    assert await partition.first() == 6


async def test_what_a_process_of_before_completes_is_forgotten(store: Store, unique: str) -> None:
    partition = Partition(store, unique, type="count", count=1)
    await partition.open()
    for seq in range(1, 3001):
        await partition.take(seq, "a", now_ms=0)
    closed: Any = await store.redis.hkeys(partition.keys.closed)
    gone = [name for name in closed if not name.endswith(b"/3000")]
    await store.redis.hdel(partition.keys.closed, *gone)
    assert await partition.first() == 3000
    assert await store.redis.zcard(partition.keys.unfinished) == 1


async def test_it_costs_the_same_however_many_windows_there_are(
    store: Store, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_READ", 50)
    partition = Partition(store, unique, type="count", count=1)
    await partition.open()
    for seq in range(1, 1001):
        await partition.take(seq, "a", now_ms=0)
    before = (await store.redis.info("stats"))["total_net_output_bytes"]
    unfinished = await partition.writer.unfinished()
    sent = (await store.redis.info("stats"))["total_net_output_bytes"] - before
    assert unfinished.first_seq == 1
    assert 1000 < unfinished.bytes < 3000, "2,000 in all"
    assert sent < 20_000, "the records of 50 windows, and what info says itself"


SPECS: list[dict[str, Any]] = [
    {"type": "count", "count": 3, "max_wait": "2s"},
    {"type": "tumbling", "size": "3s", "time": "event", "max_out_of_orderness": "2s"},
    {
        "type": "tumbling", "size": "3s", "time": "event", "late": "update",
        "allowed_lateness": "5s",
    },
    {"type": "sliding", "size": "4s", "slide": "2s", "time": "event"},
    {"type": "session", "gap": "2s", "time": "event", "max_out_of_orderness": "3s"},
]  # fmt: skip


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec["type"])
async def test_it_is_what_the_records_say_after_any_history(
    store: Store, unique: str, spec: dict[str, Any]
) -> None:
    draw = random.Random(str(spec))
    partition = Partition(store, unique, **spec)
    await partition.open()
    began_ms = await store.now_ms()
    seq = now_ms = 0
    for _ in range(150):
        now_ms += draw.randrange(500)
        step = draw.random()
        if step < 0.7:
            seq += 1
            late_ms = draw.randrange(4000)
            await partition.take(
                seq, draw.choice("abc"), max(0, now_ms - late_ms), began_ms + now_ms
            )
        elif step < 0.9:
            await partition.complete(draw.randrange(1, 4))
        elif step < 0.95:
            await partition.open(tracks_first=draw.random() < 0.7)
        else:
            await partition.store_plan(partition.planner.close_all("idle"))
        if partition.writer._tracks_first:
            assert await partition.first() == await partition.truly_first()
    await partition.open()
    await partition.store_plan(partition.planner.close_all("drain"))
    await partition.complete(1000)
    first = await partition.first()
    assert first == await partition.truly_first()
    has_index = await store.redis.exists(partition.keys.unfinished)
    assert bool(has_index) == (first is not None), "beat has to close what is left"
