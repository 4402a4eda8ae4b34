"""Ending tasks of an event loop for sure."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 1.0


async def end(*tasks: asyncio.Task[Any], again_s: float = _AGAIN_S) -> None:
    """Cancel tasks and wait until they are done; what they raise is dropped.

    Cancelling once is not enough. Up to Python 3.11 ``asyncio.wait_for``, through which clients of
    Redis and NATS wait, loses a cancellation that comes in the moment when what it waits for is
    done (https://github.com/python/cpython/issues/86296). A task that loops then goes on forever.

    Args:
        tasks: any number.
        again_s: how long a task may take to clean up before it is cancelled once more, seconds.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=again_s)
    for task in tasks:
        if not task.cancelled():
            task.exception()
