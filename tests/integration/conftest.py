"""Window stores, one on the Redis that all tests share and an empty one on a module's own; and
ingestors that put a stream into one window."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.store.connection import Store
from tests.integration.one_window import Site, Sites


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


@pytest.fixture
async def sites(nats_server: NatsServer, nats_client: Client, unique: str) -> AsyncIterator[Sites]:
    """Opens streams of the test's name, with ingestors that end with the test."""
    opened: list[Site] = []

    async def open_site(
        url: str,
        retention: RetentionPolicy = RetentionPolicy.WORK_QUEUE,
        policy: AckPolicy | None = None,
        replicas: int | None = None,
        consumer: Mapping[str, Any] | None = None,
        **source: Any,
    ) -> Site:
        jetstream = nats_client.jetstream()
        await jetstream.add_stream(
            StreamConfig(name=unique, subjects=[f"{unique}.>"], retention=retention)
        )
        if policy is not None:
            options = {"ack_wait": 1.0, **(consumer or {})}
            config = ConsumerConfig(durable_name="d", ack_policy=policy, **options)
            await jetstream.add_consumer(unique, config)
        if policy is not None:
            source["durable"] = "d"
        site = Site(url, nats_server, nats_client, unique, source, replicas)
        opened.append(site)
        return site

    yield open_site
    for site in opened:
        await site.aclose()
