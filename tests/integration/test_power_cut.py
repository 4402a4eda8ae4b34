"""No message is acknowledged before it is on Redis' disk, so that a power cut loses none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, RetentionPolicy

from sinfer.embedded.servers import RedisServer
from sinfer.store.connection import Store
from sinfer.store.durability import Durability
from tests.integration.one_window import Sites
from tests.support.accounts import read_account
from tests.support.durable_store import written
from tests.support.until import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def disk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def aof(server: RedisServer) -> Path:
    """The file that grows."""
    [path] = (server.directory / "appendonlydir").glob("*.incr.aof")
    return path


@pytest.mark.parametrize(
    ("retention", "policy"),
    [
        (RetentionPolicy.WORK_QUEUE, None),
        (RetentionPolicy.LIMITS, AckPolicy.EXPLICIT),
        (RetentionPolicy.LIMITS, AckPolicy.ALL),
    ],
    ids=["work queue", "durable", "durable, ack policy all"],
)
async def test_what_a_power_cut_takes_was_not_acknowledged_and_is_read_again(
    disk_server: RedisServer, sites: Sites, retention: RetentionPolicy, policy: AckPolicy | None
) -> None:
    site = await sites(disk_server.url, retention, policy)
    await site.publish(0, 100)
    await until(lambda: site.has_fetched(100))
    await until(site.is_acknowledged)

    # From here on nothing gets to the disk, and Redis confirms nothing.
    await site.store.redis.config_set("appendfsync", "no")
    on_disk = aof(disk_server).stat().st_size
    await site.publish(100, 200)
    await until(lambda: site.has_fetched(200))
    assert aof(disk_server).stat().st_size > on_disk
    assert await site.unacknowledged() == 100

    disk_server.process.kill()
    with aof(disk_server).open("rb+") as file:
        file.truncate(on_disk)
    disk_server.start()
    await site.publish(200, 210)
    await until(lambda: site.has_fetched(210))
    await until(site.is_acknowledged)
    assert sorted(await site.content()) == list(range(210))
    assert (await read_account(site.store, site.scope)).missing == 0


async def test_without_an_append_only_file_messages_are_acknowledged_and_the_risk_is_told(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with RedisServer(config={"appendonly": "no"}) as server:
        site = await sites(server.url)
        await site.publish(0, 10)
        await until(lambda: site.has_fetched(10))
        await until(site.is_acknowledged)
        [line] = [text for text in caplog.messages if ": ingesting; " in text]
        assert "a power cut of Redis may take acknowledged messages" in line
        assert "appendonly is disabled" in line
        await site.aclose()


async def test_reading_by_position_needs_no_disk(
    disk_server: RedisServer, sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    site = await sites(disk_server.url, RetentionPolicy.LIMITS)
    await site.publish(0, 10)
    await until(lambda: site.has_fetched(10))
    [line] = [text for text in caplog.messages if ": ingesting; " in text]
    assert "WAITAOF" not in line


@pytest.fixture
async def store(disk_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(disk_server.url)
    yield store
    await store.aclose()


async def test_any_number_ask_with_one_connection_and_nothing_is_left(store: Store) -> None:
    durability = Durability(store)
    await durability.try_out()
    assert durability.confirms
    before = (await store.redis.info("commandstats"))["cmdstat_waitaof"]["calls"]
    await asyncio.gather(*(written(durability) for _ in range(1000)))
    after = (await store.redis.info("commandstats"))["cmdstat_waitaof"]["calls"]
    assert after - before <= 5
    assert not await store.redis.keys("sinfer:mark*")


async def test_a_server_that_refuses_the_command_is_not_asked_again(store: Store) -> None:
    await store.redis.acl_setuser(
        "limited", enabled=True, nopass=True, keys=["*"], categories=["+@all"],
        commands=["-waitaof"],
    )  # fmt: skip
    limited = Store(store.shown_url.replace("://", "://limited:x@"))
    durability = Durability(limited)
    await durability.try_out()
    assert not durability.confirms
    assert "waitaof" in durability.text
    await written(durability)
    await limited.aclose()


async def test_a_file_that_is_switched_off_stops_no_acknowledgement() -> None:
    with RedisServer() as server:
        store = Store(server.url)
        durability = Durability(store)
        await durability.try_out()
        assert durability.confirms
        await store.redis.config_set("appendonly", "no")
        await written(durability)
        assert not durability.confirms
        await store.aclose()
