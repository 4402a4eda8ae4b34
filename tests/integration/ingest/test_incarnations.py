"""Which incarnation a partition reads under, over all that may befall its state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client

from sinfer import Product, StaticTaskManager
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.errors import SourceError
from sinfer.ingest.supervisor import Supervisor
from sinfer.operations.audit import audit
from sinfer.operations.reset import StartedOver, start_over
from sinfer.products.task import InferTaskConfig
from sinfer.store.connection import Store
from sinfer.store.keys import STARTS, PartitionKeys
from sinfer.store.work.claims import PartitionClaims
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from tests.support.task_settings import settings_of
from tests.support.text_product import Texts
from tests.support.until import until

pytestmark = pytest.mark.integration


class Site:
    """A task on a stream of its own, and an ingestor of it that runs when asked to.

    Args:
        client: NATS.
        store: a Redis of its own.
        source: what the task's source has beside the stream.
    """

    def __init__(self, client: Client, store: Store, redis_url: str, name: str, **source: Any):
        self.client = client
        self.store = store
        self.config: dict[str, Any] = settings_of(
            "t", source={"stream": name, **source}, window={"type": "count", "count": 2}
        )
        self.task = InferTaskConfig.model_validate(self.config)
        self.product = Product(name, tasks=StaticTaskManager([self.config]), pipeline=Texts)
        self.scope = Scope(name, "t", ">")
        self.keys = PartitionKeys(self.scope)
        self._hints = HintSender(Celery(broker=redis_url))

    async def make_stream(self) -> None:
        name = self.task.source.stream
        await self.client.jetstream().add_stream(name=name, subjects=[f"{name}.>"])

    async def publish(self, messages: int) -> None:
        for n in range(messages):
            await self.client.jetstream().publish(f"{self.task.source.stream}.x", str(n).encode())

    async def read(self, fetched: int) -> str:
        """Ingest until so many messages were fetched in all; returns the incarnation."""
        ingestor = Supervisor(self.store, self.product, self._hints)
        before = await self._number("commits")
        running = asyncio.create_task(ingestor.run())

        async def is_done() -> bool:
            assert not running.done()
            has_committed = await self._number("commits") not in (0, before)
            return has_committed and await self._number("fetched") >= fetched

        await until(is_done)
        ingestor.stop()
        await running
        found: Any = await self.store.redis.hget(self.keys.meta, "incarnation")
        return str(found, "ascii")

    async def _number(self, field: str) -> int:
        return int(await self.store.redis.hget(self.keys.meta, field) or 0)

    async def start_over(self) -> StartedOver:
        return await start_over(self.store, self.client, self.scope, self.task)

    async def incarnations(self) -> list[str]:
        """Of the closed windows, in the order of closing."""
        claims, _ = await PartitionClaims(self.store, self.scope).claim(100, lease_ms=1)
        return [claim.window.record.incarnation for claim in claims]


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    """A Redis that tests may wipe."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def site(
    own_redis: RedisServer, nats_server: NatsServer, nats_client: Client, unique: str
) -> AsyncIterator[Any]:
    store = Store(own_redis.url)
    await store.redis.flushall()

    def make(**source: Any) -> Site:
        servers = [nats_server.url]
        return Site(nats_client, store, own_redis.url, unique, servers=servers, **source)

    yield make
    await store.aclose()


async def test_with_ack_done_it_is_the_same_again_after_redis_was_wiped(site: Any) -> None:
    made: Site = site(ack="done")
    await made.make_stream()
    await made.publish(3)
    first = await made.read(3)
    assert "." not in first
    await made.store.redis.flushall()
    await made.publish(1)
    assert await made.read(1) == first

    over = await made.start_over()
    assert over.start == 1
    assert over.consumer
    assert await made.read(1 + 4) == f"{first}.1"
    await made.store.redis.flushall()
    await made.publish(1)
    assert await made.read(1) == f"{first}.1"
    # Redis knows of no start any more, the consumer does.
    assert (await made.start_over()).start == 2
    assert await made.read(1 + 5) == f"{first}.2"


async def test_a_stream_made_again_has_another_and_windows_keep_theirs(site: Any) -> None:
    made: Site = site()
    await made.make_stream()
    await made.publish(5)
    first = await made.read(5)
    stream = made.task.source.stream
    await made.client.jetstream().delete_stream(stream)
    with pytest.raises(SourceError, match=f"stream '{stream}' does not exist"):
        await made.start_over()
    await made.make_stream()
    await made.publish(5)
    over = await made.start_over()
    assert (over.position, over.closed, over.waiting) == (5, 1, 3)
    second = await made.read(10)
    assert second.partition(".")[0] != first
    assert second.endswith(".1")
    [audited] = await audit(made.store, [made.scope])
    assert audited.account.missing == 0
    assert (audited.account.fetched, audited.account.buffered) == (10, 1)
    assert await made.incarnations() == [first] * 3 + [second] * 2


async def test_a_position_that_is_removed_by_hand_starts_over_by_command(site: Any) -> None:
    made: Site = site()
    await made.make_stream()
    await made.publish(5)
    first = await made.read(5)
    await made.store.redis.hdel(made.keys.meta, "source")
    over = await made.start_over()
    assert (over.position, over.closed, over.start) == (0, 1, 1)
    assert await made.read(10) == f"{first}.1"
    assert await made.incarnations() == [first] * 3 + [f"{first}.1"] * 2
    [audited] = await audit(made.store, [made.scope])
    assert audited.account.missing == 0


async def test_a_position_that_is_removed_when_nothing_is_left_is_a_new_start(site: Any) -> None:
    made: Site = site()
    await made.make_stream()
    first = await made.read(0)
    await made.store.redis.delete(made.keys.meta)
    await made.publish(2)
    assert await made.read(2) == f"{first}.1"


async def test_what_an_earlier_version_stored_goes_on_under_the_first(site: Any) -> None:
    made: Site = site()
    await made.make_stream()
    await made.publish(4)
    first = await made.read(4)
    await made.store.redis.hdel(made.keys.meta, "incarnation")
    await made.store.redis.delete(STARTS)
    await made.publish(2)
    assert await made.read(6) == first


async def test_restarts_on_an_empty_stream_are_no_new_starts(site: Any) -> None:
    made: Site = site()
    await made.make_stream()
    await made.read(0)
    for _ in range(2):
        await made.read(0)
    await made.publish(1)
    assert "." not in await made.read(1)


async def test_a_work_queue_cannot_start_over(site: Any) -> None:
    made: Site = site()
    stream = made.task.source.stream
    await made.client.jetstream().add_stream(
        name=stream, subjects=[f"{stream}.>"], retention="workqueue"
    )
    await made.publish(2)
    first = await made.read(2)
    with pytest.raises(SourceError, match=r"has workqueue retention.*nothing can be read again"):
        await made.start_over()
    await made.publish(2)
    assert await made.read(4) == first
