"""A stream for each test, and a store that keeps what a reader gave, as Redis would."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from sinfer.source.attachment import Attachment
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.source.config import JetStreamSource
from sinfer.source.pull import PullTiming
from sinfer.source.source_partition import SourcePartition
from sinfer.types.gone import Gone
from sinfer.types.message import Message
from tests.support.reading import acknowledge
from tests.support.until import until

DEADLINE_S = 30.0
TIMING = PullTiming(expires_s=2.0, heartbeat_s=0.25)
"""Notices a lost consumer after half a second."""


class Store:
    """What was committed: the messages, and the state that belongs to them."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.encoded: bytes | None = None
        self.duplicates = 0
        self.pending = 0
        self.gone: list[Gone] = []

    def copy(self) -> Store:
        """What a replica has that gets nothing from here on."""
        replica = Store()
        replica.messages, replica.encoded = [*self.messages], self.encoded
        return replica

    @property
    def state(self) -> Checkpoint | None:
        return None if self.encoded is None else Checkpoint.decode(self.encoded)

    @property
    def payloads(self) -> list[bytes]:
        return [message.data for message in self.messages]

    def commit(self, batch: Batch) -> None:
        self.messages += batch.messages
        self.encoded = pack_checkpoint(batch.state)
        self.duplicates += batch.duplicates
        self.pending = batch.pending
        self.gone += batch.gone


class Stream:
    """One stream of a test, with the subjects ``<name>.>``."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.jetstream = client.jetstream()
        self.name = name

    async def create(self, **settings: Any) -> None:
        await self.jetstream.add_stream(
            StreamConfig(name=self.name, subjects=[f"{self.name}.>"], **settings)
        )

    async def add_durable(self, name: str, **settings: Any) -> None:
        config = ConsumerConfig(durable_name=name, **settings)
        await self.jetstream.add_consumer(self.name, config)

    async def publish(self, payloads: Iterable[bytes], subject: str = "a") -> None:
        """Publish in order and wait until all is stored."""
        await self._publish_all([(subject, payload) for payload in payloads])

    async def publish_between_others(self, count: int) -> None:
        """Publish so many numbers on subject ``b``, each followed by one for somebody else."""
        pairs = [(("b", number), ("a", b"other")) for number in numbers(count)]
        await self._publish_all([message for pair in pairs for message in pair])

    async def _publish_all(self, messages: list[tuple[str, bytes]]) -> None:
        before = (await self.jetstream.stream_info(self.name)).state.last_seq
        for subject, data in messages:
            await self.client.publish(f"{self.name}.{subject}", data)
        await self.client.flush()

        async def all_stored() -> bool:
            info = await self.jetstream.stream_info(self.name)
            return info.state.last_seq >= before + len(messages)

        await until(all_stored)

    def source(self, **settings: Any) -> JetStreamSource:
        return JetStreamSource(stream=self.name, **settings)

    async def open(
        self,
        store: Store,
        *,
        client: Client | None = None,
        subject: str = ">",
        by_event_time: bool = False,
        **settings: Any,
    ) -> Attachment:
        """A reader that goes on from what is stored."""
        return await Attachment.open(
            client or self.client,
            SourcePartition(
                self.source(**settings), subject, f"{self.name}-0", store.state, by_event_time
            ),
            timing=TIMING,
        )


async def read(reader: Attachment, store: Store, total: int, *, max_messages: int = 500) -> None:
    """Read and commit until the store holds so many messages."""
    deadline = time.monotonic() + DEADLINE_S
    while len(store.messages) < total:
        assert time.monotonic() < deadline, f"{len(store.messages)} of {total} messages came"
        batch = await reader.next_batch(max_messages, 0.5)
        if batch is not None:
            store.commit(batch)
            await acknowledge(batch)


async def read_quietly(reader: Attachment, store: Store, seconds: float) -> None:
    """Read and commit what comes in a while: nothing new is expected."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        batch = await reader.next_batch(500, left)
        if batch is not None:
            store.commit(batch)
            await acknowledge(batch)


async def one_batch(reader: Attachment, max_messages: int = 500) -> Batch:
    """The next batch that holds messages."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        assert time.monotonic() < deadline, "no message came"
        batch = await reader.next_batch(max_messages, 0.5)
        if batch is not None and batch.messages:
            return batch


def numbers(count: int, start: int = 0) -> list[bytes]:
    """Payloads that tell which message is missing or double."""
    return [b"%d" % number for number in range(start, start + count)]


@pytest.fixture
async def stream(nats_client: Client, unique: str) -> Stream:
    return Stream(nats_client, unique)


@pytest.fixture
def store() -> Store:
    return Store()
