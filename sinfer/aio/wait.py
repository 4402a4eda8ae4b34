"""Waiting for an event, but not for longer than a while."""

from __future__ import annotations

import asyncio


async def wait_for_event(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Wait until an event is set.

    Args:
        event: stays as it is.
        timeout_s: how long to wait, seconds; None for as long as it takes.

    Returns:
        Whether it is set.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return event.is_set()
