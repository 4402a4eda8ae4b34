"""Redis in cluster mode takes the scripts: each touches declared keys of one slot and no others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import RedisServer
from sinfer.store.connection import Store
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Completion
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.support.accounts import read_account
from tests.support.until import until
from tests.support.window_reference import SPECS, Item


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisServer]:
    with RedisServer(config={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as server:
        yield server


@pytest.fixture
async def cluster_store(cluster: RedisServer) -> AsyncIterator[Store]:
    store = Store(cluster.url)
    if (await cluster_info(store))["cluster_slots_assigned"] == "0":
        await store.redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)  # type: ignore[no-untyped-call]

    async def is_ready() -> bool:
        return (await cluster_info(store))["cluster_state"] == "ok"

    await until(is_ready, "the cluster")
    yield store
    await store.aclose()


async def cluster_info(store: Store) -> dict[str, str]:
    info: dict[str, str] = await store.redis.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
    return info


@pytest.mark.parametrize("name", SPECS)
async def test_every_step_stays_in_the_slot_of_its_partition(
    cluster_store: Store, unique: str, name: str
) -> None:
    scopes = [Scope("p", unique, f"in.{{{n}}}") for n in range(2)]
    aligned = scopes if "time" in SPECS[name] else []
    pair = [Partition(cluster_store, scope, aligned, **SPECS[name]) for scope in scopes]
    schedule = Schedule(cluster_store)
    now = await cluster_store.now_ms()
    for partition in pair:
        await schedule.register(partition.scope)
        items = [Item(n, f"k/{{{n % 3}}}", n % 7 * 30 + n) for n in range(1, 40)]
        await partition.take(items[:20], now)
        await schedule.announce(partition.scope)
        await partition.take(items[20:], now)
        await partition.drain()
    turn = None
    async with asyncio.timeout(10):
        while turn is None:
            turn = await schedule.tick(pause_ms=1, limit=100, sweep=10_000)
    assert {due.scope for due in turn.due} >= set(scopes)
    for partition in pair:
        await schedule.close_due(partition.scope)
        while claims := await partition.claim(10):
            contents = await partition.claims.read(claims)
            assert await partition.claims.renew(claims, lease_ms=5000) == [True] * len(claims)
            assert await partition.claims.store_output(claims[0], output=b"rows", sinks=["s"])
            for claim, messages in zip(claims, contents, strict=True):
                letter = DeadLetter(messages[0], "request", "bad", now, claim.window.id)
                counts = {"sunk": len(messages) - 1, "dead": 1}
                assert await partition.claims.complete([Completion(claim, counts, [letter])])
        account = await read_account(cluster_store, partition.scope)
        assert (account.fetched, account.missing) == (39, 0)
        assert (account.buffered, account.in_flight) == (0, 0)
        assert await partition.keys_left() == {"meta", "dead"}
        await partition.writer.release()
