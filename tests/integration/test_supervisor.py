"""An ingestor in this process, on real servers: who takes over from it finds what was left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client

from sinfer import (
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    StaticTaskManager,
    Window,
)
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.hints import HintSender
from sinfer.ingest.supervisor import Supervisor
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.store import Store

pytestmark = pytest.mark.integration


class Texts(InferPipeline[InferTaskConfig, str]):
    def preprocess(self, message: Message) -> str | None:
        return message.data.decode()

    def build_request(self, window: Window[str]) -> Any:
        return list(window)

    def build_results(self, window: Window[str], response: Any) -> list[Result]:
        return [Result(text) for text in window]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[Store]:
    store = Store(redis_server.url)
    yield store
    await store.aclose()


@pytest.fixture
async def make(
    store: Store, redis_server: RedisServer, nats_server: NatsServer, unique: str
) -> AsyncIterator[Callable[[], Supervisor]]:
    """Makes ingestors of one and the same product, with one task on a stream of its own."""
    task = {
        "id": unique,
        "source": {"stream": unique, "servers": [nats_server.url]},
        "window": {"type": "count", "count": 2},
        "inference": {"type": "python", "call": "operator:index"},
        "sinks": [{"type": "log"}],
    }
    product = Product(unique, tasks=StaticTaskManager([task]), pipeline=Texts)
    hints = HintSender(Celery(broker=redis_server.url))
    yield lambda: Supervisor(store, product, hints)
    hints.close()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_partition_that_never_had_a_message_can_be_taken_over(
    make: Callable[[], Supervisor], store: Store, nats_client: Client, unique: str
) -> None:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    meta = PartitionKeys(Scope(unique, unique, ">")).meta
    first = make()
    running = asyncio.create_task(first.run())

    async def has_begun() -> bool:
        return bool(await store.redis.hexists(meta, "commits"))

    await until(has_begun)
    first.stop()
    await running

    second = make()
    running = asyncio.create_task(second.run())
    for text in (b"a", b"b", b"c"):
        await nats_client.jetstream().publish(f"{unique}.x", text)

    async def all_are_fetched() -> bool:
        return int(await store.redis.hget(meta, "fetched") or 0) == 3

    await until(all_are_fetched)
    second.stop()
    await running
    assert await store.redis.hexists(meta, "owner") == 0
