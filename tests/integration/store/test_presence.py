"""Signs of life in a real Redis: they end by the store's clock, and survive whatever befalls it."""

from __future__ import annotations

import asyncio

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.store.boards.running_processes import SILENT_AFTER_MS, Presence, PresenceBoard
from sinfer.store.connection import Store
from sinfer.store.keys import ALIVE, CLOCK

pytestmark = pytest.mark.integration


@pytest.fixture
def store(empty_store: Store) -> Store:
    """Its clock is set."""
    return empty_store


def sign(process: int, **more: str) -> Presence:
    return Presence("worker", "w@here", process, "t", **more)  # type: ignore[arg-type]


async def test_all_are_there_until_they_leave_or_fall_silent(store: Store) -> None:
    boards = [PresenceBoard(store) for _ in range(200)]
    await asyncio.gather(*(board.tell(sign(n)) for n, board in enumerate(boards)))
    found = await boards[0].read()
    assert [presence.process for presence in found.workers] == list(range(200))
    assert found.beats == []
    await boards[7].leave()
    assert 7 not in [presence.process for presence in (await boards[0].read()).workers]
    # As if the clock had gone on: what was told before is too old, and is removed.
    now_ms = await store.now_ms()
    await store.redis.hset(CLOCK, "time", now_ms + SILENT_AFTER_MS + 1000)
    await boards[3].tell(sign(3))
    assert [presence.process for presence in (await boards[0].read()).workers] == [3]
    assert await store.redis.zcard(ALIVE) == 1


async def test_a_sign_that_changes_takes_the_place_of_the_last_one(store: Store) -> None:
    board = PresenceBoard(store)
    await board.tell(sign(1))
    await board.tell(sign(1, deaf="no broker"))
    assert [presence.deaf for presence in (await board.read()).workers] == ["no broker"]


async def test_a_wiped_store_knows_them_again_with_the_next_sign(store: Store) -> None:
    board = PresenceBoard(store)
    await board.tell(sign(1))
    await store.redis.flushdb()
    assert (await board.read()).processes == []
    await board.tell(sign(1))
    assert (await board.read()).workers == [sign(1)]


async def test_a_key_of_another_kind_and_signs_of_another_version_are_no_obstacle(
    store: Store,
) -> None:
    board = PresenceBoard(store)
    await store.redis.set(ALIVE, "x")
    assert (await board.read()).processes == []
    await board.tell(sign(1))
    await board.tell(sign(1))
    await store.redis.zadd(ALIVE, {b"\xff no sign": await store.now_ms()})
    assert (await board.read()).workers == [sign(1)]


async def test_a_full_redis_takes_signs() -> None:
    with RedisServer(config={"maxmemory": "1mb"}) as server:
        store = Store(server.url)
        try:
            board = PresenceBoard(store)
            await board.tell(sign(1))
            assert (await board.read()).workers == [sign(1)]
        finally:
            await store.aclose()
