"""`sinfer status` gives the reasons that the log of an ingestor has, in the same words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import nats
import pytest
from celery import Celery
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from sinfer import Product, StaticTaskManager
from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.ingest.supervisor import Supervisor
from sinfer.operations.products import known_scopes
from sinfer.operations.status import TaskStanding, broken_tasks, standing
from sinfer.store.connection import Store
from sinfer.store.schedule import Schedule
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from tests.support.secured import as_user
from tests.support.task_settings import Upper, settings_of
from tests.support.until import until

pytestmark = pytest.mark.integration

USERS = """
authorization { users: [
  {user: all, password: x}
  {user: puller, password: x, permissions: {publish: {deny: "$JS.API.CONSUMER.MSG.NEXT.>"}}}
  {user: maker, password: x, permissions: {publish: {deny: "$JS.API.CONSUMER.CREATE.>"}}}
] }
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsServer]:
    with NatsServer(config=USERS) as server:
        yield server


@pytest.fixture
async def admin(guarded: NatsServer, unique: str) -> AsyncIterator[Client]:
    """A connection that may do anything, and a stream by the test's name."""
    client = await nats.connect(*as_user(guarded, "all"))
    stream = StreamConfig(name=unique, subjects=[f"{unique}.>"])
    await client.jetstream().add_stream(stream)
    yield client
    await client.close()


Run = Callable[..., Awaitable[None]]


@pytest.fixture
async def run(
    store: Store, redis_server: RedisServer, guarded: NatsServer, unique: str
) -> AsyncIterator[Run]:
    """Begins to ingest a task of this name by a user of NATS; ends with the test."""
    async with AsyncExitStack() as stack:

        async def begin(user: str = "all", broker: str = redis_server.url, **changes: Any) -> None:
            source = {"stream": unique, "servers": as_user(guarded, user)}
            source |= changes.pop("source", {})
            window = changes.pop("window", {"type": "count", "count": 2})
            task = settings_of(unique, source=source, window=window, **changes)
            hints = HintSender(Celery(broker=broker))
            stack.callback(hints.close, 0.1)
            product = Product(unique, tasks=StaticTaskManager([task]), pipeline=Upper)
            supervisor = Supervisor(store, product, hints)
            running = asyncio.create_task(supervisor.run())

            async def end() -> None:
                supervisor.stop()
                await running

            stack.push_async_callback(end)

        yield begin


async def tasks_of(store: Store, product: str) -> list[TaskStanding]:
    return await standing(store, await known_scopes(store, product, None))


async def told(store: Store, product: str) -> list[str]:
    """The trouble that status has."""
    tasks = await tasks_of(store, product)
    tasks += await broken_tasks(store, {product}, tasks)
    return [text for task in tasks for text in task.trouble]


async def reason(
    store: Store,
    product: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
    *,
    is_there: bool = True,
) -> None:
    """Wait until status has a text with these words, and see that the log had it as well."""
    texts: list[str] = []

    async def is_told() -> bool:
        texts[:] = await told(store, product)
        return any(words in text for text in texts) == is_there

    await until(is_told, lambda: f"{words!r}, there are {texts}, {caplog.messages}")
    assert any(words in message for message in caplog.messages)


async def test_a_missing_stream(
    run: Run, store: Store, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    await run(source={"stream": "nowhere"})
    await reason(store, unique, "stream 'nowhere' does not exist", caplog)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("puller", "$js.api.consumer.msg.next"),
        ("maker", "does this user lack the permission?"),
    ],
)
async def test_a_missing_permission(
    admin: Client,
    run: Run,
    store: Store,
    unique: str,
    caplog: pytest.LogCaptureFixture,
    user: str,
    words: str,
) -> None:
    await run(user)
    await reason(store, unique, words, caplog)


async def test_a_consumer_with_risks(
    admin: Client, run: Run, store: Store, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = ConsumerConfig(durable_name="old", max_deliver=3)
    await admin.jetstream().add_consumer(unique, consumer)
    await run(source={"durable": "old"})
    await reason(store, unique, "has max_deliver 3: messages", caplog)


async def test_windows_that_pile_up(
    admin: Client, run: Run, store: Store, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(20):
        await admin.jetstream().publish(f"{unique}.x", b"text")
    await run(limits={"max_pending_windows": 3})
    await reason(store, unique, "windows wait (limits.max_pending_windows 3)", caplog)


async def test_copies_of_dead_letters_that_nobody_takes(
    admin: Client, run: Run, store: Store, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.jetstream().publish(f"{unique}.x", b"\xff")
    await run(dead_letter_subject="nowhere")
    await reason(store, unique, "no stream takes dead_letter_subject nowhere", caplog)
    await admin.jetstream().add_stream(name=f"{unique}-dead", subjects=["nowhere"])
    await reason(store, unique, "no stream takes", caplog, is_there=False)
    await admin.jetstream().delete_stream(f"{unique}-dead")


async def test_a_broker_that_takes_nothing(
    admin: Client, run: Run, store: Store, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await admin.jetstream().publish(f"{unique}.x", b"text")
    await run(broker=f"redis://127.0.0.1:{free_port()}/0")
    await reason(store, unique, "the Celery broker takes no messages", caplog)


async def test_nats_that_goes_away(
    redis_server: RedisServer, store: Store, unique: str, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    with NatsServer() as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
        await client.jetstream().publish(f"{unique}.x", b"text")
        await client.close()
        await run(source={"servers": [server.url]})

        async def is_fetched() -> bool:
            return sum(task.total("fetched") for task in await tasks_of(store, unique)) > 0

        await until(is_fetched)
    await reason(store, unique, "NATS is disconnected", caplog)


async def test_a_redis_that_is_nearly_full(unique: str) -> None:
    with RedisServer() as server:
        store = Store(server.url)
        await Schedule(store).register(Scope(unique, "t", ">"))
        used = int((await store.redis.info("memory"))["used_memory"])
        await store.redis.config_set("maxmemory", str(used * 10 // 9))
        texts = await told(store, unique)
        await store.aclose()
    assert any("% of its maxmemory, so that pulling stops" in text for text in texts), texts
