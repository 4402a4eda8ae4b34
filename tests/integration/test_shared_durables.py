"""Tasks that name one durable: the first has it, whoever comes later is told and reads nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from sinfer import Product
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.errors import SourceError
from sinfer.ingest.supervisor import Supervisor
from sinfer.operations.preflight import preflight
from sinfer.operations.products import known_scopes
from sinfer.operations.reset import start_over
from sinfer.operations.status import broken_tasks, standing
from sinfer.store.connection import Store
from sinfer.store.keys import CONSUMERS
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from tests.support.accounts import read_account
from tests.support.task_settings import settings_of
from tests.support.text_product import Listed, Texts
from tests.support.until import until

pytestmark = pytest.mark.integration


class Site:
    """A stream and products whose tasks read it."""

    def __init__(self, store: Store, client: Client, servers: list[str], name: str) -> None:
        self.store, self.client, self.servers, self.name = store, client, servers, name
        self.hints: Any = None

    def task(self, id: str, **source: Any) -> dict[str, Any]:
        return settings_of(
            id,
            source={"stream": self.name, "servers": self.servers, "durable": "d", **source},
            window={"type": "count", "count": 2},
        )

    def product(self, letter: str, *tasks: dict[str, Any]) -> Product:
        return Product(f"{self.name}{letter}", tasks=Listed(*tasks), pipeline=Texts)

    @asynccontextmanager
    async def ingesting(self, product: Product) -> AsyncIterator[None]:
        ingestor = Supervisor(self.store, product, self.hints)
        running = asyncio.create_task(ingestor.run())
        try:
            yield
        finally:
            ingestor.stop()
            await running

    async def publish(self, count: int) -> None:
        for n in range(count):
            await self.client.jetstream().publish(f"{self.name}.a", b"%d" % n)

    async def fetched(self, product: Product, task: str, partition: str = ">") -> int:
        scope = Scope(product.name, task, partition)
        return (await read_account(self.store, scope)).fetched

    def has(self, product: Product, task: str, count: int) -> Callable[[], Any]:
        async def has_all() -> bool:
            return await self.fetched(product, task) == count

        return has_all

    def is_waiting(self, scope: Scope) -> Callable[[], Any]:
        async def waits() -> bool:
            return await PartitionClaims(self.store, scope).waiting() == 1

        return waits

    async def finish(self, scope: Scope) -> None:
        """Do what workers do with the one window that waits."""
        claims = PartitionClaims(self.store, scope)
        [claim], _ = await claims.claim(1, lease_ms=60_000)
        await claims.complete([Completion(claim, {"sunk": 1, "windows": 1})])

    async def trouble(self, product: Product) -> str:
        """What status says of a product's tasks."""
        known = await standing(self.store, await known_scopes(self.store, product.name, None))
        found = [*known, *await broken_tasks(self.store, [product.name], known)]
        return "; ".join(line for task in found for line in task.trouble)

    def told(self, product: Product, text: str) -> Callable[[], Any]:
        async def is_told() -> bool:
            return text in await self.trouble(product)

        return is_told


@pytest.fixture
async def site(
    store: Store,
    redis_server: RedisServer,
    nats_server: NatsServer,
    nats_client: Client,
    unique: str,
) -> AsyncIterator[Site]:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    site = Site(store, nats_client, [nats_server.url], unique)
    site.hints = HintSender(Celery(broker=redis_server.url))
    yield site
    site.hints.close()
    await nats_client.jetstream().delete_stream(unique)


@asynccontextmanager
async def two_readers(site: Site) -> AsyncIterator[tuple[Listed, Product, Product]]:
    """The durable has a task of the first product, whose tasks are listed; the second one waits."""
    manager = Listed(site.task("t"))
    first = Product(f"{site.name}a", tasks=manager, pipeline=Texts)
    second = site.product("b", site.task("t"))
    async with site.ingesting(first):
        await site.publish(1)
        await until(site.has(first, "t", 1))
        async with site.ingesting(second):
            await until(site.told(second, "is read by task"))
            yield manager, first, second


async def test_a_durable_of_another_product_is_refused_and_its_reader_misses_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = site.product("a", site.task("t")), site.product("b", site.task("t"))
    told = f"consumer 'd' of stream {site.name!r} is read by task {first.name}/t already"
    async with site.ingesting(first):
        await site.publish(3)
        await until(site.has(first, "t", 3))
        async with site.ingesting(second):
            await until(site.told(second, told))
            await site.publish(20)
            await until(site.has(first, "t", 23))
        assert told in caplog.text
        assert await site.fetched(second, "t") == 0
        assert "is read by" not in await site.trouble(first)


async def test_a_durable_stays_with_its_task_while_nobody_ingests_that(site: Site) -> None:
    first, second = site.product("a", site.task("t")), site.product("b", site.task("t"))
    async with site.ingesting(first):
        await site.publish(3)
        await until(site.has(first, "t", 3))
    async with site.ingesting(second):
        await site.publish(5)
        await until(site.told(second, f"is read by task {first.name}/t already"))
        async with site.ingesting(first):
            await until(site.has(first, "t", 8))
    assert await site.fetched(second, "t") == 0


async def test_two_tasks_of_one_product_on_one_durable_leave_it_to_one(site: Site) -> None:
    product = site.product("a", site.task("t"), site.task("u"))
    async with site.ingesting(product):
        await until(site.told(product, "is read by task"))
        await site.publish(20)

        async def one_has_all() -> bool:
            counts = [await site.fetched(product, id) for id in ("t", "u")]
            return sorted(counts) == [0, 20]

        await until(one_has_all)


async def test_a_task_that_was_removed_leaves_its_durable_to_the_next(site: Site) -> None:
    async with two_readers(site) as (manager, first, second):
        manager.tasks = []
        # Its last window is never processed here; by then nothing is left of it.
        [scope] = await known_scopes(site.store, first.name, None)
        await until(site.is_waiting(scope))
        await site.finish(scope)
        await site.publish(4)
        await until(site.has(second, "t", 4))


async def test_another_durable_or_none_gives_it_back(site: Site) -> None:
    async with two_readers(site) as (manager, first, second):
        manager.tasks = [site.task("t", durable=None)]

        async def is_taken() -> bool:
            consumers = await site.store.redis.hgetall(CONSUMERS)
            return str(Scope(second.name, "t", ">")).encode() in consumers.values()

        await until(is_taken)
        await site.publish(4)
        await until(site.has(second, "t", 4))
        await until(site.has(first, "t", 5))


async def test_what_only_gives_its_place_is_read_by_as_many_as_like(site: Site) -> None:
    config = ConsumerConfig(durable_name="d", ack_policy=AckPolicy.NONE)
    await site.client.jetstream().add_consumer(site.name, config)
    first, second = site.product("a", site.task("t")), site.product("b", site.task("t"))
    await site.publish(4)
    async with site.ingesting(first), site.ingesting(second):
        await until(site.has(first, "t", 4))
        await until(site.has(second, "t", 4))


async def test_check_tells_before_they_run_and_while_one_runs(site: Site) -> None:
    first = site.product("a", site.task("t"))
    second = site.product("b", site.task("u"))
    everybody = []
    for product in (first, second):
        listed = await product.list_tasks()
        everybody += [(product, task) for task in listed.tasks.values()]

    async def found(product: Product, task: Any, others: Any) -> list[str]:
        found = preflight(site.store, [(product, task)], others)
        return [f.text for f in [f async for f in found] if f.verdict == "error"]

    for place, (product, task) in enumerate(everybody):
        [text] = [t for t in await found(product, task, everybody) if "is named by" in t]
        other = everybody[1 - place]
        assert f"is named by task {other[0].name}/{other[1].id} as well" in text
        assert "name another source.durable" in text
        assert not [t for t in await found(product, task, [(product, task)]) if "consumer" in t]
    async with site.ingesting(first):
        await site.publish(1)
        await until(site.has(first, "t", 1))
        [text] = [t for t in await found(*everybody[1], []) if "is read by" in t]
        assert f"is read by task {first.name}/t already" in text
        assert not [t for t in await found(*everybody[0], everybody) if "consumer '" in t]


async def test_starting_over_leaves_the_durable_of_another_task_alone(site: Site) -> None:
    first = site.product("a", site.task("t"))
    second = site.product("b", site.task("u"))
    async with site.ingesting(first):
        await site.publish(3)
        await until(site.has(first, "t", 3))
        task = (await second.list_tasks()).tasks["u"]
        with pytest.raises(SourceError, match=f"is read by task {first.name}/t already"):
            await start_over(site.store, site.client, Scope(second.name, "u", ">"), task)
        await site.publish(3)
        await until(site.has(first, "t", 6))
