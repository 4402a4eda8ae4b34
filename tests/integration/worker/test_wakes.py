"""A process that found all windows is woken for the next, and no messages are sent for them."""

from __future__ import annotations

import asyncio
import time

import pytest

from sinfer.aio.cancel import end
from sinfer.errors import AccessError
from sinfer.store.connection import Store
from sinfer.store.keys import WAKE
from sinfer.store.wakes import WakeListener
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.worker.claim_loop import drain
from tests.integration.worker.test_waiting import WINDOWS, World, world
from tests.support.until import until

pytestmark = pytest.mark.integration

__all__ = ["world"]


async def _hinted(world: World) -> int:
    """Windows that somebody counts as told of."""
    return int(await world.store.redis.hget(world.meta, "hinted") or 0)


async def _all_are_done(world: World) -> None:
    async def nothing_waits() -> bool:
        return await world.waiting() == 0 and world.scope not in world.runtime.partitions

    await until(nothing_waits, every_s=0.005)


async def _listens(world: World) -> None:
    await until(lambda: bool(world.runtime.wakes.name), "its subscription")


async def _waits(world: World) -> bool:
    """Whether some process waits for windows of the partition."""
    return bool(await world.store.redis.hget(world.meta, "waiters"))


async def _drained(world: World) -> None:
    """The process has found all windows that there are, and waits for more."""
    await _listens(world)
    await drain(world.runtime, world.scope, WINDOWS)
    await _all_are_done(world)
    if not await _waits(world):  # its last claim had as many windows as places
        await drain(world.runtime, world.scope, 0)
        await _all_are_done(world)
    assert await _waits(world)


def test_windows_are_found_at_once_and_without_messages(world: World) -> None:
    async def run() -> None:
        await _drained(world)
        for _ in range(5):
            began_s = time.monotonic()
            assert await world.add(1) == 0, "no message is sent"
            await _all_are_done(world)
            assert time.monotonic() - began_s < 5
            assert await _hinted(world) == 0

    world.runtime.call(run())


def test_processes_that_wait_take_turns(world: World) -> None:
    heard: list[str] = []

    async def run() -> None:
        await _drained(world)
        others = [WakeListener(world.store, lambda *_, n=n: heard.append(n)) for n in "ab"]
        listening = [asyncio.create_task(other.run()) for other in others]
        await until(lambda: all(other.name for other in others))
        for other in (*others, *others):  # again: each of them waits once all the same
            claims = PartitionClaims(world.store, world.scope)
            await claims.claim(1, lease_ms=1000, waiter=other.name)
        assert await world.add(1) == 0
        await _all_are_done(world)  # by the first that waited
        for turn in "ab":
            assert await world.add(1) == 0
            await until(lambda: bool(heard))
            assert heard.pop() == turn
        await end(*listening)
        assert await world.add(1) == 0, "the first has found all windows, and waits again"
        await _all_are_done(world)

    world.runtime.call(run())


def test_a_process_that_ends_is_not_waited_for(world: World) -> None:
    async def run() -> None:
        await _drained(world)
        world.runtime._listening.cancel()
        await until(lambda: not world.runtime.wakes.name)
        assert await world.add(1) == 1, "somebody has to be told by a message"
        assert not await _waits(world)

    world.runtime.call(run())


def test_a_process_that_hangs_keeps_no_window_from_others_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        await _drained(world)
        monkeypatch.setattr(world.runtime.wakes, "_wake", lambda *_: None)
        assert await world.add(1) == 0

        async def is_told_again() -> bool:
            return (await world.schedule.close_due(world.scope)).hint == 1

        began_s = time.monotonic()
        await until(is_told_again)
        assert time.monotonic() - began_s < 4

    world.runtime.call(run())


def test_a_wait_that_is_over_is_no_wait(world: World) -> None:
    async def run() -> None:
        await _drained(world)
        await world.store.redis.hset(world.meta, "waiters", f"{world.runtime.wakes.name} 1")
        assert await world.add(1) == 1
        assert not await _waits(world)

    world.runtime.call(run())


def test_what_is_written_there_by_others_harms_nobody(world: World) -> None:
    async def run() -> None:
        await _drained(world)
        channel = world.runtime.wakes.name
        for text in ("", "x", "1", "1 a/b", "1 a/b/c/d", "x p/t/s", b"\xff 1", f"-1 {world.scope}"):
            await world.store.redis.publish(channel, text)
        for value in ("", "somebody", f"{WAKE}nobody 99999999999999", "\x00 \x00", "a b c"):
            await world.store.redis.hset(world.meta, "waiters", value)
            assert await world.add(1) in (0, 1)
            await drain(world.runtime, world.scope, 1)
            await _all_are_done(world)

    world.runtime.call(run())


def test_a_subscription_that_was_cut_is_made_again(world: World) -> None:
    async def run() -> None:
        await _drained(world)
        await world.store.redis.client_kill_filter(_type="pubsub")

        async def listens_again() -> bool:
            [(_, listeners)] = await world.store.redis.pubsub_numsub(world.runtime.wakes.name)
            return bool(listeners)

        await until(listens_again)
        assert await world.add(1) == 0
        await _all_are_done(world)

    world.runtime.call(run())


async def test_a_user_that_may_not_subscribe_goes_without(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Forbidden(WakeListener):
        async def _listen(self) -> None:
            raise AccessError("NOPERM no permissions to access a channel")

    listener = Forbidden(store, lambda *_: None)
    listening = asyncio.create_task(listener.run())
    await until(lambda: "told of by Celery messages alone: NOPERM" in caplog.text)
    assert listener.name == ""
    await end(listening)


def test_a_process_that_ends_leaves_its_hints_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[Scope, int]] = []

    def send(scope: Scope, windows: int, *, always: bool = False) -> None:
        if windows or always:
            sent.append((scope, windows))

    async def run() -> None:
        await world.pause(None)
        monkeypatch.setattr(world.runtime.hints, "send", send)
        working = asyncio.create_task(drain(world.runtime, world.scope, 3))
        await asyncio.sleep(0)
        world.runtime.closing = True
        world.runtime.partitions[world.scope].wake()
        await working
        await until(lambda: world.scope not in world.runtime.partitions)
        await asyncio.sleep(0)
        assert sent == [(world.scope, 3)]

    world.runtime.call(run())


def test_messages_tell_of_a_growing_backlog_only_now_and_then(world: World) -> None:
    async def run() -> None:
        assert await world.add(WINDOWS // 2) == 0
        assert await world.add(1) == WINDOWS // 2 + 1, "it has grown by half"

    world.runtime.call(run())
