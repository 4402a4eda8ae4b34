"""With ``ack: done``, no message that died is acknowledged before its copy is on a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from celery import Celery
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

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
from sinfer.ingest.supervisor import Supervisor
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from sinfer.worker.given_up import dead_letter
from sinfer.worker.outcome import Failure
from tests.support.until import until

pytestmark = pytest.mark.integration

LOOKS = 2
"""A partition that looked so often since had its chance to acknowledge."""


class Times(InferPipeline[InferTaskConfig, float]):
    """Messages are their event time, in seconds."""

    def preprocess(self, message: Message) -> float:
        return float(message.data)

    def event_time(self, item: float) -> float:
        return item

    def build_request(self, window: Window[float]) -> Any:
        return list(window)

    def build_results(self, window: Window[float], response: Any) -> list[Result]:
        return [Result(item) for item in window]


@pytest.fixture(scope="module")
def wiped_server() -> Iterator[RedisServer]:
    """A Redis that is wiped: nobody else's."""
    with RedisServer() as server:
        yield server


class Site:
    """A task on a stream of its own, its ingestor, and what became of its messages."""

    def __init__(self, redis: RedisServer, nats: NatsServer, client: Client, name: str) -> None:
        self.name = name
        self.store = Store(redis.url)
        self.jetstream = client.jetstream()
        self.scope = Scope(name, name, f"{name}.in")
        self.keys = PartitionKeys(self.scope)
        self._nats = nats
        self._hints = HintSender(Celery(broker=redis.url))
        self._ingestor: Supervisor | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self, dead_letter_subject: str = "", **window: Any) -> None:
        """Have the task ingested, in count windows of one unless told."""
        subject = dead_letter_subject or f"copies.{self.name}"
        task = {
            "id": self.name,
            "source": {
                "stream": self.name,
                "subject": self.scope.partition,
                "servers": [self._nats.url],
                "durable": "d",
                "ack": "done",
            },
            "window": window or {"type": "count", "count": 1},
            "inference": {"type": "python", "call": "operator:index"},
            "sinks": [{"type": "log"}],
            "dead_letter_subject": subject,
        }
        product = Product(self.name, tasks=StaticTaskManager([task]), pipeline=Times)
        self._ingestor = Supervisor(self.store, product, self._hints)
        self._running = asyncio.create_task(self._ingestor.run())

    async def stop(self) -> None:
        """End the ingestor as an operator does."""
        if self._ingestor is not None and self._running is not None:
            self._ingestor.stop()
            await self._running
        self._ingestor = self._running = None

    async def aclose(self) -> None:
        await self.stop()
        self._hints.close()
        await self.store.aclose()

    async def publish(self, *messages: str) -> None:
        for message in messages:
            await self.jetstream.publish(self.scope.partition, message.encode())

    async def add_copies(self) -> None:
        """The stream that the copies go to."""
        await self.jetstream.add_stream(
            name=f"{self.name}-copies", subjects=[f"copies.{self.name}"]
        )

    async def copied(self) -> list[int]:
        """Sequences of the messages that copies are there of."""
        name = f"{self.name}-copies"
        state = (await self.jetstream.stream_info(name)).state
        copies = [await self.jetstream.get_msg(name, n + 1) for n in range(state.last_seq)]
        return [int((copy.headers or {})["Sinfer-Sequence"]) for copy in copies]

    async def unacknowledged(self) -> int:
        info = await self.jetstream.consumer_info(self.name, "d")
        return int(info.num_ack_pending or 0)

    async def is_acknowledged(self, *, but: int = 0) -> None:
        """Wait until all messages are, but for so many."""

        async def so_many_are_left() -> bool:
            return await self.unacknowledged() == but

        await until(so_many_are_left)

    async def has_dead(self, count: int) -> None:
        """Wait for so many dead letters in Redis."""

        async def so_many_died() -> bool:
            return int(await self.store.redis.xlen(self.keys.dead)) == count

        await until(so_many_died)

    async def looked(self) -> None:
        """Wait until the ingestor looked for dead letters a few times more."""

        async def looks() -> int:
            stats = await self.store.redis.info("commandstats")
            return int(stats.get("cmdstat_xrevrange", {}).get("calls", 0))

        before = await looks()

        async def often_enough() -> bool:
            return await looks() >= before + LOOKS

        await until(often_enough)

    async def claim(self, count: int) -> list[Claim]:
        """Take so many closed windows as a worker does, the oldest first."""
        claims = PartitionClaims(self.store, self.scope)
        taken: list[Claim] = []

        async def are_closed() -> bool:
            taken.extend((await claims.claim(count - len(taken), lease_ms=60_000))[0])
            return len(taken) == count

        await until(are_closed)
        return taken

    async def give_up(self, claim: Claim) -> None:
        """Complete a window as a worker does whose model refused it."""
        claims = PartitionClaims(self.store, self.scope)
        [messages] = await claims.read([claim])
        failure = Failure(0, len(messages) - 1, "inference", "refused")
        now_ms = await self.store.now_ms()
        letters = [dead_letter(claim, m, n, failure, now_ms) for n, m in enumerate(messages)]
        completion = Completion(claim, {"dead": len(letters)}, letters)
        assert await claims.complete([completion]) == [True]


@pytest.fixture
async def site(
    wiped_server: RedisServer, nats_server: NatsServer, nats_client: Client, unique: str
) -> AsyncIterator[Site]:
    site = Site(wiped_server, nats_server, nats_client, unique)
    await site.jetstream.add_stream(name=unique, subjects=[f"{unique}.>"])
    consumer = ConsumerConfig(durable_name="d", filter_subject=site.scope.partition, ack_wait=1.0)
    await site.jetstream.add_consumer(unique, consumer)
    yield site
    await site.aclose()


async def test_whatever_died_is_acknowledged_once_it_is_copied_and_not_before(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    window = {"type": "tumbling", "size": "1s", "time": "event", "late": "dead_letter"}
    await site.start(**window)
    # Seq 1 fails in preprocess, 2 in a worker, 4 is late; 3 is good, 5 in an open window.
    await site.publish("bad", "1", "5", "1", "9")
    first, second = await site.claim(2)
    await site.give_up(first)
    assert await PartitionClaims(site.store, site.scope).complete([Completion(second)]) == [True]
    await site.has_dead(3)
    await site.looked()
    assert await site.unacknowledged() == 5
    await site.stop()
    assert await site.unacknowledged() == 5

    await site.start(**window)
    await site.looked()
    assert await site.unacknowledged() == 5
    await site.add_copies()
    await site.is_acknowledged(but=1)
    assert sorted(await site.copied()) == [1, 2, 4]
    told = "no message is acknowledged before its dead letters are copied"
    warned = [r for r in caplog.records if told in r.message]
    assert {record.levelno for record in warned} == {logging.WARNING}


async def test_redis_wiped_between_death_and_copy_leaves_one_copy(site: Site) -> None:
    await site.start()
    await site.publish("bad")
    await site.has_dead(1)
    await site.looked()
    await site.store.redis.flushall()
    await site.has_dead(1)
    assert await site.unacknowledged() == 1
    await site.add_copies()
    await site.is_acknowledged()
    assert await site.copied() == [1]


async def test_a_subject_that_the_task_reads_itself_holds_no_acknowledgement_back(
    site: Site,
) -> None:
    await site.start(dead_letter_subject=site.scope.partition)
    await site.publish("bad")
    await site.has_dead(1)
    await site.is_acknowledged()
