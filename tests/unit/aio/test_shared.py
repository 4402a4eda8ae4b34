"""What sinks of an event loop share."""

from __future__ import annotations

import asyncio

import pytest

from sinfer.aio.shared import SharedByLoop


class Closing:
    def __init__(self, key: str) -> None:
        if key == "broken":
            raise ValueError(key)
        self.is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


async def test_the_last_user_closes() -> None:
    shared = SharedByLoop(Closing)
    first, second = shared.acquire("a"), shared.acquire("a")
    assert first is second
    await shared.release("a")
    assert not first.is_closed
    await shared.release("a")
    assert first.is_closed
    assert shared.acquire("a") is not first


async def test_keys_do_not_share() -> None:
    shared = SharedByLoop(Closing)
    assert shared.acquire("a") is not shared.acquire("b")


def test_event_loops_do_not_share() -> None:
    shared = SharedByLoop(Closing)

    async def acquire() -> Closing:
        return shared.acquire("a")

    assert asyncio.run(acquire()) is not asyncio.run(acquire())


async def test_what_cannot_be_made_is_not_kept() -> None:
    shared = SharedByLoop(Closing)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            shared.acquire("broken")
