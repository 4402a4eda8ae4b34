"""No message is acknowledged before it is on Redis' disk, so that a power cut loses none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from sinfer import (
    Product,
    StaticTaskManager,
)
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.ingest.supervisor import Supervisor
from sinfer.store.connection import Store
from sinfer.store.durability import Disk
from sinfer.store.keys import PartitionKeys
from sinfer.tasks.hints import HintSender
from sinfer.types.message import unpack_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import unpack_record
from tests.support.accounts import read_account
from tests.support.durable_store import written
from tests.support.task_settings import settings_of
from tests.support.text_product import Texts
from tests.support.until import until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def disk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Site:
    """One ingestor in this process, that puts all of a stream into one window."""

    def __init__(
        self, server: RedisServer, nats: NatsServer, client: Client, name: str, source: Any
    ) -> None:
        self.server = server
        self.name = name
        self.store = Store(server.url)
        self.scope = Scope(name, name, ">")
        self._jetstream: JetStreamContext = client.jetstream()
        task = settings_of(
            name,
            source={"stream": name, "servers": [nats.url], "batch": 20, **source},
            window={"type": "count", "count": 100_000},
        )
        product = Product(name, tasks=StaticTaskManager([task]), pipeline=Texts)
        self._hints = HintSender(Celery(broker=server.url))
        self._ingestor = Supervisor(self.store, product, self._hints)
        self._running = asyncio.create_task(self._ingestor.run())

    async def publish(self, first: int, last: int) -> None:
        for number in range(first, last):
            await self._jetstream.publish(f"{self.name}.x", b"%d" % number)

    async def has_fetched(self, messages: int) -> bool:
        return (await read_account(self.store, self.scope)).fetched == messages

    async def unacknowledged(self) -> int:
        [info] = await self._jetstream.consumers_info(self.name)
        return int(info.num_ack_pending or 0) + int(info.num_pending or 0)

    async def is_acknowledged(self) -> bool:
        return await self.unacknowledged() == 0

    async def content(self) -> list[int]:
        """The numbers in the open window, in its order."""
        keys, redis = PartitionKeys(self.scope), self.store.redis
        opened: dict[bytes, bytes] = await self.store.ask(redis.hgetall(keys.open))
        [(name, blob)] = opened.items()
        segment = keys.segment(name.decode())
        chunks: list[bytes] = await self.store.ask(redis.lrange(segment, 0, -1))
        assert len(chunks) == unpack_record(blob).chunks
        return [int(message.data) for chunk in chunks for message in unpack_chunk(chunk)]

    def aof(self) -> Path:
        [path] = (self.server.directory / "appendonlydir").glob("*.incr.aof")
        return path

    async def aclose(self) -> None:
        self._ingestor.stop()
        await self._running
        self._hints.close()
        await self.store.aclose()


Sites = Callable[..., Awaitable[Site]]


@pytest.fixture
async def sites(nats_server: NatsServer, nats_client: Client, unique: str) -> AsyncIterator[Sites]:
    opened: list[Site] = []

    async def open_site(
        server: RedisServer,
        retention: RetentionPolicy = RetentionPolicy.WORK_QUEUE,
        policy: AckPolicy | None = None,
    ) -> Site:
        jetstream = nats_client.jetstream()
        await jetstream.add_stream(
            StreamConfig(name=unique, subjects=[f"{unique}.>"], retention=retention)
        )
        if policy is not None:
            config = ConsumerConfig(durable_name="d", ack_policy=policy, ack_wait=1.0)
            await jetstream.add_consumer(unique, config)
        source = {} if policy is None else {"durable": "d"}
        site = Site(server, nats_server, nats_client, unique, source)
        opened.append(site)
        return site

    yield open_site
    for site in opened:
        await site.aclose()


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
    site = await sites(disk_server, retention, policy)
    await site.publish(0, 100)
    await until(lambda: site.has_fetched(100))
    await until(site.is_acknowledged)

    # From here on nothing gets to the disk, and Redis confirms nothing.
    await site.store.redis.config_set("appendfsync", "no")
    on_disk = site.aof().stat().st_size
    await site.publish(100, 200)
    await until(lambda: site.has_fetched(200))
    assert site.aof().stat().st_size > on_disk
    assert await site.unacknowledged() == 100

    disk_server.process.kill()
    with site.aof().open("rb+") as file:
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
        site = await sites(server)
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
    site = await sites(disk_server, RetentionPolicy.LIMITS)
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
    disk = Disk(store)
    await disk.try_out()
    assert disk.confirms
    before = (await store.redis.info("commandstats"))["cmdstat_waitaof"]["calls"]
    await asyncio.gather(*(written(disk) for _ in range(1000)))
    after = (await store.redis.info("commandstats"))["cmdstat_waitaof"]["calls"]
    assert after - before <= 5
    assert not await store.redis.keys("sinfer:mark*")


async def test_a_server_that_refuses_the_command_is_not_asked_again(store: Store) -> None:
    await store.redis.acl_setuser(
        "limited", enabled=True, nopass=True, keys=["*"], categories=["+@all"],
        commands=["-waitaof"],
    )  # fmt: skip
    limited = Store(store.shown_url.replace("://", "://limited:x@"))
    disk = Disk(limited)
    await disk.try_out()
    assert not disk.confirms
    assert "waitaof" in disk.text
    await written(disk)
    await limited.aclose()


async def test_a_file_that_is_switched_off_stops_no_acknowledgement() -> None:
    with RedisServer() as server:
        store = Store(server.url)
        disk = Disk(store)
        await disk.try_out()
        assert disk.confirms
        await store.redis.config_set("appendonly", "no")
        await written(disk)
        assert not disk.confirms
        await store.aclose()
