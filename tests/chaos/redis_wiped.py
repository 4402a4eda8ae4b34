"""The fault that takes everything at once: Redis is emptied, window store, broker and all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sinfer.errors import UnavailableError
from tests.chaos.faults import Fault, World


@asynccontextmanager
async def flushed(world: World) -> AsyncIterator[str]:
    """FLUSHALL."""
    store = world.progress.store
    with suppress(UnavailableError):
        await store.ask(store.redis.flushall())
    yield ""


FLUSHALL = Fault("Redis: FLUSHALL", flushed, 12.0)
