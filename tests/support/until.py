"""Waiting for what comes true: the test goes on at once, or fails after a long time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 60.0
"""How long a test waits for what takes moments where the machine has nothing else to do."""

LOOK_S = 0.02
"""How long it waits between two looks."""


async def until(
    holds: Callable[[], Awaitable[bool] | bool],
    what: str | Callable[[], object] = "it",
    timeout_s: float = PATIENCE_S,
    every_s: float = LOOK_S,
) -> None:
    """Look again and again until something holds.

    Args:
        holds: asks whether it does; it may fail the test where it never will.
        what: is waited for, or says what is there instead, in case it does not come.
        timeout_s: when the test fails.
        every_s: how long it waits between two looks.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {timeout_s:.0f} s for {told}")
        await asyncio.sleep(every_s)


def until_true(
    holds: Callable[[], bool],
    shown: Callable[[], object] = lambda: "it did not come true",
    timeout_s: float = PATIENCE_S,
) -> None:
    """As ``until``, where there is no event loop.

    Args:
        holds: asks whether it does; it may fail the test where it never will.
        shown: what to show in case it does not come.
        timeout_s: when the test fails.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, shown()
        time.sleep(LOOK_S)
