"""Window stores: one on the Redis that all tests share, and an empty one on a module's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.store.connection import Store


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(redis_server.url)
    yield store
    await store.aclose()


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """A Redis that is nobody else's: it may be emptied, and its clock set."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def empty_store(own_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(own_server.url)
    await store.redis.flushall()
    yield store
    await store.aclose()
