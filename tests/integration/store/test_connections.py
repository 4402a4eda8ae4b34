"""The store's pool of connections outlives an outage of Redis."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, suppress

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.errors import UnavailableError
from sinfer.store.connection import Store
from sinfer.store.lua import Argument

_CONNECTIONS = 64
"""In the store's pool."""


async def test_scripts_that_meet_a_frozen_redis_keep_no_connection() -> None:
    with RedisServer() as server:
        store = Store(server.url)
        calls: list[tuple[list[str], list[Argument]]] = [(["{p}:meta"], ["owner", 1000])]
        try:
            await store.now_ms()
            server.process.signal(signal.SIGSTOP)
            with pytest.raises(UnavailableError):
                await store.run_many("take_writer_lease", calls)
            server.process.signal(signal.SIGCONT)
            async with asyncio.timeout(30), AsyncExitStack() as stack:
                for _ in range(_CONNECTIONS):
                    client = store.redis.client()
                    await client.initialize()
                    stack.push_async_callback(client.aclose)
        finally:
            with suppress(ProcessLookupError):
                server.process.signal(signal.SIGCONT)
            await store.aclose()
