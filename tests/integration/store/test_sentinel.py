"""A store behind Sentinels: whoever writes goes on with the primary of the moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from sinfer.errors import UnavailableError
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from tests.support.sentinels import Sentinels
from tests.support.until import until
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


@pytest.fixture
async def behind(sentinels: Sentinels) -> AsyncIterator[Store]:
    store = Store(sentinels.url)
    yield store
    await store.aclose()


async def answers(store: Store, key: str) -> bool:
    try:
        await store.ask(store.redis.set(key, "x"))
    except UnavailableError:
        return False
    return True


async def is_at(store: Store, sentinels: Sentinels) -> bool:
    """Whether the store is at the primary of the moment."""
    primary = await sentinels.primary()
    try:
        found = await store.ask(store.redis.config_get("port"))
    except UnavailableError:
        return False
    return int(found["port"]) == primary.port


async def test_after_a_failover_work_goes_on_with_the_new_primary(
    behind: Store, sentinels: Sentinels, unique: str
) -> None:
    scope = Scope("p", unique, ">")
    writer = PartitionWriter(behind, scope, owner="w", lease_ms=60_000)
    await writer.acquire()
    planner = make_planner(window_spec(type="count", count=1), scope.window_prefix)

    async def store_one(seq: int) -> None:
        plan = planner.plan([Entry(Message(b"x", "s", None, seq, seq), "k", 0)], 0)
        await writer.commit(Commit(plan, b"s"))
        planner.apply(plan)

    await store_one(1)
    claims = PartitionClaims(behind, scope)
    assert await claims.waiting() == 1
    before = await sentinels.primary()
    await sentinels.fail_over()
    began_s = time.monotonic()
    await until(lambda: is_at(behind, sentinels))
    assert time.monotonic() - began_s < 5
    await store_one(2)
    assert await claims.waiting() == 2
    primary = await sentinels.primary()
    assert primary is not before
    async with Redis.from_url(primary.url) as redis:
        assert await redis.hlen(claims.keys.closed) == 2, "what is stored is where it belongs"


async def test_no_connection_to_a_demoted_primary_is_used_again(
    behind: Store, sentinels: Sentinels, unique: str
) -> None:
    await asyncio.gather(*(answers(behind, f"sinfer:{unique}:{n}") for n in range(20)))
    before = await sentinels.primary()
    await sentinels.fail_over()
    await until(lambda: is_at(behind, sentinels))
    port = (await sentinels.primary()).port
    assert port != before.port
    found = await asyncio.gather(*(behind.ask(behind.redis.config_get("port")) for _ in range(20)))
    assert {int(config["port"]) for config in found} == {port}


async def test_sentinels_that_are_away_are_told_as_an_outage(tmp_path: object) -> None:
    store = Store("sentinel://127.0.0.1:1,127.0.0.1:2/primary/0")
    with pytest.raises(
        UnavailableError, match=r"sentinel://127\.0\.0\.1:1,127\.0\.0\.1:2/primary/0"
    ):
        await store.ask(store.redis.ping())
    await store.aclose()


async def test_a_primary_that_is_killed_is_replaced(
    behind: Store, sentinels: Sentinels, unique: str
) -> None:
    await until(lambda: answers(behind, f"sinfer:{unique}"))
    primary = await sentinels.primary()
    primary.process.kill()
    try:
        began_s = time.monotonic()

        async def goes_on() -> bool:
            return await answers(behind, f"sinfer:{unique}")

        await until(goes_on)
        assert time.monotonic() - began_s < 15
        assert (await sentinels.primary()) is not primary
    finally:
        primary.start()
