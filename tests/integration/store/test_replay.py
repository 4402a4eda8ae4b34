"""A day of messages, replayed at full speed, gives the windows of the live run to the byte."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sinfer.store.connection import Store
from sinfer.store.partition.writer import PartitionWriter
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.integration.store.conftest import Partition
from tests.support.window_reference import Item

HOUR_MS = 3_600_000
DAY = 1_709_164_800_000  # 2024-02-29, midnight in UTC

SPECS: dict[str, dict[str, Any]] = {
    "tumbling": {"type": "tumbling", "size": "1h", "max_count": 40},
    "updates": {
        "type": "tumbling", "size": "15m", "late": "update", "allowed_lateness": "10m",
    },
    "sliding": {"type": "sliding", "size": "1h", "slide": "25m"},
    "session": {"type": "session", "gap": "4m"},
}  # fmt: skip


def a_day() -> list[Item]:
    """Readings of three devices, some late, some out of order."""
    chance = random.Random(29)
    times = sorted(chance.randrange(24 * HOUR_MS) for _ in range(1_500))
    delays = [chance.choice([0, 0, 0, 30_000, 200_000, 900_000]) for _ in times]
    items = [
        Item(seq, chance.choice("abc"), DAY + time_ms - delay, chance.randint(1, 9))
        for seq, (time_ms, delay) in enumerate(zip(times, delays, strict=True), 1)
    ]
    return [*items, Item(len(items) + 1, "a", DAY + 48 * HOUR_MS)]


async def fail_over(partition: Partition, spec: Any) -> None:
    """Another ingestor takes the partition over, from what is stored."""
    await partition.writer.release()
    partition.writer = PartitionWriter(partition.store, partition.scope, owner="b", lease_ms=60_000)
    assert await partition.writer.acquire() == 0
    state = await partition.writer.load()
    partition.planner = make_planner(
        spec,
        partition.scope.window_prefix,
        windows=state.windows,
        watermark_ms=state.watermark_ms,
    )


async def what_was_closed(partition: Partition) -> dict[str, tuple[Any, ...]]:
    """Reason, record and messages of every closed window, as bytes where they are bytes."""
    closed = {}
    while claims := await partition.claim(200):
        for claim, messages in zip(claims, await partition.claims.read(claims), strict=True):
            window = claim.window
            record = window.record
            bounds = (record.start_ms, record.end_ms, record.revision, record.count, record.bytes)
            content = tuple((message.stream_seq, message.data) for message in messages)
            name = window.id.split("/", 2)[2]
            closed[name] = (window.reason, record.key, bounds, content)
        await partition.complete(claims)
    return closed


@pytest.mark.parametrize("name", SPECS)
async def test_a_replay_with_other_batches_and_failovers_gives_the_same_windows(
    store: Store, unique: str, name: str
) -> None:
    settings = {**SPECS[name], "time": "event", "max_out_of_orderness": "1m"}
    items = a_day()
    chance = random.Random(7)

    live = Partition(store, Scope("p", f"{unique}live", ">"), **settings)
    at = 0
    while at < len(items):
        size = chance.randint(1, 40)
        await live.take(items[at : at + size], now=items[at].time_ms)
        at += size
        if chance.random() < 0.1:
            await fail_over(live, live.planner.spec)
    replay = Partition(store, Scope("p", f"{unique}replay", ">"), **settings)
    for at in range(0, len(items), 700):
        await replay.take(items[at : at + 700], now=DAY + 10**9)

    left = [
        sorted((name.split("/", 2)[2], record.count) for name, record in p.planner.open_windows())
        for p in (live, replay)
    ]
    assert left[0] == left[1]
    late = [await store.redis.hget(p.writer.keys.meta, "late") for p in (live, replay)]
    assert late[0] == late[1] != b"0"
    first, second = await what_was_closed(live), await what_was_closed(replay)
    assert len(first) > 20
    assert first == second
