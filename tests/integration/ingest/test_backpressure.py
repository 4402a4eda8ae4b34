"""High and low marks: where pulling stops, and where it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.ingest.backpressure import MemoryPressure, PartitionPressure
from sinfer.products.task import Limits
from sinfer.store.connection import Store


@pytest.mark.parametrize(
    ("windows", "payload", "stops", "named"),
    [
        # stops above the high mark, goes on at half of it
        ([10, 11, 8, 6, 5, 6, 10, 11], [0] * 8, [0, 1, 1, 1, 0, 0, 0, 1], "max_pending_windows 10"),
        ([0] * 6, [1024, 1025, 513, 512, 1024, 1025], [0, 1, 1, 0, 0, 1], "max_pending_bytes 1024"),
        # both have to be below their low marks
        ([11, 5, 5], [1025, 600, 512], [1, 1, 0], "max_pending_windows 10"),
    ],
    ids=["windows", "bytes", "both"],
)
def test_pulling_stops_at_the_limit_and_goes_on_at_half_of_it(
    windows: list[int], payload: list[int], stops: list[int], named: str
) -> None:
    pressure = PartitionPressure(Limits(max_pending_windows=10, max_pending_bytes="1KiB"))
    reasons = [pressure.reason(*now) for now in zip(windows, payload, strict=True)]
    assert [bool(reason) for reason in reasons] == [bool(stop) for stop in stops]
    assert named in next(filter(None, reasons))


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    with RedisServer(config={"maxmemory": "20mb"}) as server:
        store = Store(server.url)
        yield store
        await store.aclose()


async def fill_to(store: Store, share: float) -> None:
    """Have Redis use so much of its memory, give or take 2 %."""
    while True:
        memory = await store.redis.info("memory")
        now = memory["used_memory"] / memory["maxmemory"]
        if abs(now - share) < 0.02:
            return
        if now < share:
            await store.redis.rpush("ballast", *[b"x" * 10_000] * 10)
        else:
            await store.redis.lpop("ballast", 10)


async def test_redis_is_full_from_80_percent_until_it_is_below_70(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    pressure = MemoryPressure(store)
    seen = []
    for share in (0.5, 0.75, 0.85, 0.75, 0.65, 0.75):
        await fill_to(store, share)
        await pressure.refresh()
        seen.append(pressure.is_high)
    assert seen == [False, False, True, True, False, False]
    texts = [text for text in caplog.messages if "pulling" in text]
    assert [text.rsplit(" ", 2)[-2:] for text in texts] == [["pulling", "stops"], ["goes", "on"]]
    await store.redis.config_set("maxmemory", 0)
    await pressure.refresh()
    assert not pressure.is_high


async def test_what_is_stored_between_two_looks_cannot_fill_redis(store: Store) -> None:
    """Storing is faster than the clock that asks: 20 MB take a few milliseconds."""
    pressure = MemoryPressure(store)
    await pressure.refresh()
    while not pressure.is_high:
        await store.redis.rpush("stored", *[b"x" * 1000] * 100)
        await pressure.stored(100, 100_000)
    assert 0.78 < pressure.used / pressure.limit < 0.85
