"""A Redis Cluster: with one shard it serves as the store, with more `sinfer check` refuses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import RedisServer
from sinfer.operations.preflight.servers import check_store
from sinfer.store.connection import Store
from tests.support.until import until

pytestmark = pytest.mark.integration

LAST = 16383
BUSES = (free_port(), free_port())


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with ExitStack() as stack:
        config = {"cluster-enabled": "yes", "databases": "1"}
        yield [
            stack.enter_context(
                RedisServer(tmp_path / str(bus), config={**config, "cluster-port": str(bus)})
            )
            for bus in BUSES
        ]


@pytest.fixture
async def clients(nodes: list[RedisServer]) -> AsyncIterator[list[Any]]:
    clients: list[Any] = [Redis.from_url(node.url, decode_responses=True) for node in nodes]
    yield clients
    for client in clients:
        await client.aclose()


async def refused(node: RedisServer) -> list[str]:
    """What is wrong with it, by the preflight."""
    store = Store(node.url)
    found = [finding async for finding in check_store(store)]
    await store.aclose()
    return [f.text for f in found if f.verdict == "error"]


async def test_one_shard_will_do_and_two_are_refused(
    nodes: list[RedisServer], clients: list[Any]
) -> None:
    one, other = clients
    await one.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, LAST)

    async def is_of(shards: int) -> bool:
        found = await one.execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in found and f"cluster_size:{shards}\r" in found

    await until(lambda: is_of(1))
    assert await refused(nodes[0]) == []

    await one.execute_command("CLUSTER", "DELSLOTSRANGE", 8000, LAST)
    await other.execute_command("CLUSTER", "ADDSLOTSRANGE", 8000, LAST)
    await one.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, BUSES[1])
    await until(lambda: is_of(2))
    [text] = await refused(nodes[0])
    assert text.startswith("it is a node of a Redis Cluster of 2 shards")
    assert "sentinel://" in text
