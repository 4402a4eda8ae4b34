"""One ingestor that puts all of a stream into one window: what a fault took shows in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from celery import Celery
from nats.aio.client import Client
from nats.js import JetStreamContext

from sinfer import Product, StaticTaskManager
from sinfer.embedded.servers import NatsServer
from sinfer.ingest.supervisor import Supervisor
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.tasks.hints import HintSender
from sinfer.types.message import unpack_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import unpack_record
from tests.support.accounts import read_account
from tests.support.task_settings import settings_of
from tests.support.text_product import Texts


class Site:
    """One ingestor in this process, that puts all of a stream into one window."""

    def __init__(
        self,
        url: str,
        nats: NatsServer,
        client: Client,
        name: str,
        source: Any,
        replicas: int | None = None,
    ) -> None:
        self.name = name
        self.store = Store(url, replicas=replicas)
        self.scope = Scope(name, name, ">")
        self._jetstream: JetStreamContext = client.jetstream()
        task = settings_of(
            name,
            source={"stream": name, "servers": [nats.url], "batch": 20, **source},
            window={"type": "count", "count": 100_000},
        )
        product = Product(name, tasks=StaticTaskManager([task]), pipeline=Texts)
        self._hints = HintSender(Celery(broker=url))
        self.ingestor = Supervisor(self.store, product, self._hints)
        self._running = asyncio.create_task(self.ingestor.run())

    async def publish(self, first: int, last: int) -> None:
        for number in range(first, last):
            await self._jetstream.publish(f"{self.name}.x", b"%d" % number)

    async def has_fetched(self, messages: int) -> bool:
        return (await read_account(self.store, self.scope)).fetched == messages

    async def unacknowledged(self) -> int:
        """How many messages are not acknowledged; less than 0 before anything is read."""
        infos = await self._jetstream.consumers_info(self.name)
        left = [int(info.num_ack_pending or 0) + int(info.num_pending or 0) for info in infos]
        return sum(left) if left else -1

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

    async def aclose(self) -> None:
        self.ingestor.stop()
        await self._running
        self._hints.close()
        await self.store.aclose()


Sites = Callable[..., Awaitable[Site]]
"""Makes a stream, and an ingestor that reads it; see the fixture ``sites``."""
