"""An ingestor in this process, on real servers: who takes over from it finds what was left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client

from sinfer import (
    InferTaskConfig,
    Message,
    Product,
    StaticTaskManager,
)
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.ingest.supervisor import Supervisor, _differ
from sinfer.operations.metrics import SinferCollector
from sinfer.operations.products import known_scopes
from sinfer.operations.status import TaskStanding, broken_tasks, standing
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from sinfer.windows.records import unpack_closed
from tests.support.accounts import read_account
from tests.support.task_settings import settings_of
from tests.support.text_product import Listed, Texts
from tests.support.until import until

pytestmark = pytest.mark.integration


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
    task = settings_of(
        unique,
        source={"stream": unique, "servers": [nats_server.url]},
        window={"type": "count", "count": 2},
    )
    product = Product(unique, tasks=StaticTaskManager([task]), pipeline=Texts)
    hints = HintSender(Celery(broker=redis_server.url))
    yield lambda: Supervisor(store, product, hints)
    hints.close()


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


async def test_broken_tasks_and_an_outage_of_the_task_manager_are_seen_from_outside(
    store: Store,
    redis_server: RedisServer,
    nats_client: Client,
    nats_server: NatsServer,
    unique: str,
) -> None:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    good = settings_of(
        "good",
        source={"stream": unique, "servers": [nats_server.url]},
        window={"type": "count", "count": 2},
    )
    manager = Listed(good, {**good, "id": "bad", "window": {"type": "count"}})
    product = Product(unique, tasks=manager, pipeline=Texts)
    hints = HintSender(Celery(broker=redis_server.url))
    supervisor = Supervisor(store, product, hints)
    running = asyncio.create_task(supervisor.run())

    async def seen() -> dict[str, TaskStanding]:
        known = await standing(store, await known_scopes(store, unique, None))
        broken = await broken_tasks(store, [unique], known)
        return {found.task: found for found in known + broken}

    async def metric(name: str) -> float:
        families = await asyncio.to_thread(
            lambda: list(SinferCollector(lambda: Store(redis_server.url)).collect())
        )
        return next(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and sample.labels["product"] == unique
        )

    async def shows_the_broken_one() -> bool:
        found = await seen()
        return found.keys() == {"good", "bad"} and "window.count" in found["bad"].trouble[0]

    await until(shows_the_broken_one)
    assert await metric("sinfer_tasks_broken") == 1
    assert await metric("sinfer_tasks_unlisted") == 0

    manager.is_away = True

    async def shows_the_outage() -> bool:
        return (await seen())["good"].outage == "the database does not answer"

    await until(shows_the_outage)
    assert await metric("sinfer_tasks_unlisted") == 1
    assert (await seen())["good"].total("fetched") == 0  # it is in force, though nothing came

    manager.is_away, manager.tasks = False, [good]

    async def shows_no_trouble() -> bool:
        found = await seen()
        return found.keys() == {"good"} and not found["good"].outage

    await until(shows_no_trouble)
    supervisor.stop()
    await running
    hints.close()


async def test_a_partition_that_cannot_store_stands_still_with_its_reason_and_backoff(
    make: Callable[[], Supervisor],
    store: Store,
    nats_client: Client,
    unique: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    keys = PartitionKeys(Scope(unique, unique, ">"))
    await store.redis.set(keys.ready, "somebody else's")
    supervisor = make()
    running = asyncio.create_task(supervisor.run())
    for text in (b"a", b"b", b"c"):
        await nats_client.jetstream().publish(f"{unique}.x", text)

    async def trouble() -> str:
        known = await standing(store, await known_scopes(store, unique, None))
        broken = await broken_tasks(store, [unique], known)
        return " ".join(text for found in known + broken for text in found.trouble)

    async def tells_why() -> bool:
        return "> does not move" in await trouble() and "WRONGTYPE" in await trouble()

    await until(tells_why)
    await store.redis.delete(keys.ready)

    async def all_are_fetched() -> bool:
        return int(await store.redis.hget(keys.meta, "fetched") or 0) == 3

    await until(all_are_fetched)
    assert int(await store.redis.hget(keys.meta, "dead") or 0) == 0

    async def tells_nothing() -> bool:
        return "does not move" not in await trouble()

    await until(tells_nothing)
    supervisor.stop()
    await running


class Exiting(Texts):
    """Leaves at the first sight of a message, in every way that Python has."""

    def preprocess(self, message: Message) -> str | None:
        match message.data:
            case b"exit":
                raise SystemExit(3)
            case b"cancel":
                raise asyncio.CancelledError
            case b"keyboard":
                raise KeyboardInterrupt
        return super().preprocess(message)


async def test_hooks_that_want_to_leave_kill_their_message_alone_at_the_first_try(
    store: Store,
    redis_server: RedisServer,
    nats_client: Client,
    nats_server: NatsServer,
    unique: str,
) -> None:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    task = settings_of(
        unique,
        source={"stream": unique, "servers": [nats_server.url]},
        window={"type": "count", "count": 2},
    )
    hints = HintSender(Celery(broker=redis_server.url))
    product = Product(unique, tasks=StaticTaskManager([task]), pipeline=Exiting)
    supervisor = Supervisor(store, product, hints)
    running = asyncio.create_task(supervisor.run())
    for text in (b"a", b"exit", b"cancel", b"b", b"keyboard", b"c"):
        await nats_client.jetstream().publish(f"{unique}.x", text)
    keys = PartitionKeys(Scope(unique, unique, ">"))

    async def all_are_fetched() -> bool:
        return int(await store.redis.hget(keys.meta, "fetched") or 0) == 6

    await until(all_are_fetched)
    assert int(await store.redis.hget(keys.meta, "dead") or 0) == 3
    assert not running.done()
    supervisor.stop()
    await running
    hints.close()


def test_settings_that_cannot_be_compared_are_told_apart_by_their_text() -> None:
    class Odd(InferTaskConfig):
        note: str = ""

        def __eq__(self, other: object) -> bool:
            raise SystemExit("the truth value of an array is ambiguous")

    settings = settings_of("t", window={"type": "count", "count": 2})
    one, same = Odd.model_validate(settings), Odd.model_validate(settings)
    other = Odd.model_validate({**settings, "note": "changed"})
    assert not _differ(one, same)
    assert _differ(one, other)


class Slow(Texts):
    """Takes so long for a batch that it is stored in several parts."""

    def preprocess(self, message: Message) -> str | None:
        time.sleep(0.03)
        return super().preprocess(message)


@pytest.mark.parametrize(
    "source",
    [{}, {"durable": "d"}, {"durable": "d", "ack": "done"}],
    ids=["position", "stored", "done"],
)
async def test_a_batch_that_is_stored_in_part_is_gone_on_with_where_it_was_left(
    store: Store,
    redis_server: RedisServer,
    nats_client: Client,
    nats_server: NatsServer,
    unique: str,
    source: dict[str, str],
) -> None:
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    task = settings_of(
        unique,
        source={"stream": unique, "servers": [nats_server.url], **source},
        window={"type": "count", "count": 7},
    )
    for number in range(80):
        await nats_client.jetstream().publish(f"{unique}.x", b"%d" % number)
    hints = HintSender(Celery(broker=redis_server.url))
    product = Product(unique, tasks=StaticTaskManager([task]), pipeline=Slow)
    scope = Scope(unique, unique, ">")
    keys = PartitionKeys(scope)

    async def fetched() -> int:
        return int(await store.redis.hget(keys.meta, "fetched") or 0)

    async def some_are_fetched() -> bool:
        return await fetched() > 0

    first = Supervisor(store, product, hints)
    running = asyncio.create_task(first.run())
    await until(some_are_fetched)
    first.stop()
    await running
    left = await fetched()
    assert 0 < left < 80
    if source:
        info = await nats_client.jetstream().consumer_info(unique, "d")
        assert info.ack_floor is not None
        assert info.ack_floor.stream_seq <= (0 if "ack" in source else left)

    second = Supervisor(store, product, hints)
    running = asyncio.create_task(second.run())

    async def all_are_fetched() -> bool:
        return await fetched() >= 80

    await until(all_are_fetched)
    second.stop()
    await running
    hints.close()
    account = await read_account(store, scope)
    assert (account.fetched, account.missing) == (80, 0)
    closed: Any = await store.redis.hgetall(keys.closed)
    windows = [unpack_closed(name, value).record for name, value in closed.items()]
    found = sorted((record.first_seq, record.last_seq, record.count) for record in windows)
    assert found == [(seq, seq + 6, 7) for seq in range(1, 78, 7)]
