"""A partition that has windows again and again is looked at, and no messages are sent for them."""

from __future__ import annotations

import asyncio

import pytest

from sinfer.windows.ids import Scope
from sinfer.worker import claim_loop as draining
from sinfer.worker.claim_loop import drain
from tests.integration.worker.test_waiting import WINDOWS, World, world
from tests.support.until import until

pytestmark = pytest.mark.integration

__all__ = ["world"]

_LONG_S = 60.0
_SHORT_S = 1.0


async def _hinted(world: World) -> int:
    """Windows that messages count as on their way for."""
    return int(await world.store.redis.hget(world.meta, "hinted") or 0)


async def _all_are_done(world: World) -> None:
    async def nothing_waits() -> bool:
        return await world.waiting() == 0

    await until(nothing_waits)


def test_windows_are_found_without_messages_as_long_as_others_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "_LULL_S", _SHORT_S)

    async def run() -> None:
        await drain(world.runtime, world.scope, WINDOWS)  # more than one claim takes
        await _all_are_done(world)
        assert await world.add(1) == 1  # the message for it gets lost
        await _all_are_done(world)
        await drain(world.runtime, world.scope, 1)
        for _ in range(5):
            assert await world.add(1) == 0, "no further message is sent"
            await _all_are_done(world)
        assert await _hinted(world) == 1

        async def is_over() -> bool:
            return world.scope not in world.runtime.partitions

        await until(is_over)
        assert await _hinted(world) == 0
        assert await world.add(1) == 1, "somebody has to be told of the next one"

    world.runtime.call(run())


def test_a_window_on_its_own_has_nobody_look_for_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "_LULL_S", 0.0)

    async def run() -> None:
        await drain(world.runtime, world.scope, WINDOWS)
        await _all_are_done(world)
        assert await _hinted(world) == 0
        assert await world.add(1) == 1

    world.runtime.call(run())


def test_a_process_that_ends_while_it_looks_leaves_its_hints_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "_LULL_S", _LONG_S)
    sent: list[tuple[Scope, int]] = []

    def send(scope: Scope, windows: int, *, always: bool = False) -> None:
        if windows or always:
            sent.append((scope, windows))

    async def run() -> None:
        await drain(world.runtime, world.scope, WINDOWS)
        await _all_are_done(world)
        monkeypatch.setattr(world.runtime.hints, "send", send)
        await drain(world.runtime, world.scope, 3)
        world.runtime.closing = True
        world.runtime.partitions[world.scope].wake()

        async def is_over() -> bool:
            return world.scope not in world.runtime.partitions

        await until(is_over)
        await asyncio.sleep(0)
        assert sent == [(world.scope, 3)]

    world.runtime.call(run())


def test_messages_tell_of_a_growing_backlog_only_now_and_then(world: World) -> None:
    async def run() -> None:
        assert await world.add(WINDOWS // 2) == 0
        assert await world.add(1) == WINDOWS // 2 + 1, "it has grown by half"

    world.runtime.call(run())
