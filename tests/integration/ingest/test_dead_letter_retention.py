"""The caps on dead letters: what goes, what is told before, and what stays."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from sinfer import Message
from sinfer.embedded.servers import RedisServer
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.logging.troubles import Troubles
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter, StoredLetter
from sinfer.store.keys import PartitionKeys
from sinfer.windows.dead_letters import DeadLetter, Failed, pack_dead_letter
from sinfer.windows.ids import Scope
from tests.support.task_settings import task_of
from tests.support.until import until

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000


class Partition:
    """A partition with dead letters of any age."""

    def __init__(self, store: Store, client: Client, name: str) -> None:
        self.store = store
        self.client = client
        self.scope = Scope("p", name, "in")
        self._stored = 0

    @property
    def copies(self) -> str:
        """The subject of copies, and the name of the stream that may take it."""
        return f"{self.scope.task}-copies"

    def care(self, *, copies: bool = False, ack: str = "stored", **limits: Any) -> DeadLetterCare:
        task = task_of(
            self.scope.task,
            source={"stream": "S", "ack": ack},
            limits=limits,
            dead_letter_subject=self.copies if copies else None,
        )
        return DeadLetterCare(
            self.store, self.client, self.scope, task, Troubles().of(str(self.scope))
        )

    async def give_up(
        self, letters: int, *, age_ms: int, data: bytes = b"x", history: list[Failed] | None = None
    ) -> None:
        """Store letters that are so old; the oldest have to come first."""
        stored_ms = await self.store.now_ms() - age_ms
        for _ in range(letters):
            self._stored += 1
            message = Message(data, "in.a", None, self._stored, 1)
            letter = DeadLetter(
                message, "preprocess", "was wrong", stored_ms, history=history or []
            )
            await self.store.redis.xadd(
                PartitionKeys(self.scope).dead,
                {"letter": pack_dead_letter(letter)},
                id=f"{stored_ms}-{self._stored}",
            )

    async def wipe(self) -> None:
        """Forget all of it; the same messages come again."""
        keys = PartitionKeys(self.scope)
        await self.store.redis.delete(keys.meta, keys.dead)
        self._stored = 0

    async def copy(self, *, ack: str) -> int:
        """Have all letters copied; returns how many copies the stream holds then."""
        keys = PartitionKeys(self.scope)
        last = await DeadLetterStore(self.store).last(self.scope)
        assert last is not None

        async def all_are_copied() -> bool:
            copied = await self.store.redis.hget(keys.meta, "mirrored")
            return bool(copied == last.encode())

        caring = asyncio.create_task(self.care(copies=True, ack=ack).run())
        try:
            await until(all_are_copied)
        finally:
            caring.cancel()
            await asyncio.wait({caring})
        return (await self.client.jetstream().stream_info(self.copies)).state.messages

    async def left(self) -> list[int]:
        """Sequences of the letters that are left."""
        return [stored.letter.message.stream_seq async for stored in letters_of(self)]

    async def trimmed(self) -> int:
        return int(await self.store.redis.hget(PartitionKeys(self.scope).meta, "trimmed") or 0)


def letters_of(partition: Partition) -> AsyncIterator[StoredLetter]:
    return DeadLetterStore(partition.store).of_partition(partition.scope, LetterFilter())


@pytest.fixture
async def partition(
    redis_server: RedisServer, nats_client: Client, unique: str
) -> AsyncIterator[Partition]:
    store = Store(redis_server.url)
    yield Partition(store, nats_client, unique)
    await store.aclose()


def levels(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.levelno for record in caplog.records if record.name.startswith("sinfer")]


async def test_a_cap_on_their_number_warns_once_at_80_percent_and_then_removes_the_oldest(
    partition: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    care = partition.care(max_dead_letters=10)
    await partition.give_up(7, age_ms=0)
    assert await care.keep_caps() == 0
    assert levels(caplog) == []
    await partition.give_up(1, age_ms=0)
    for _ in range(2):
        assert await care.keep_caps() == 0
    assert levels(caplog) == [logging.WARNING]
    assert "8 of at most 10 dead letters" in caplog.text
    assert "limits.max_dead_letters" in caplog.text
    await partition.give_up(4, age_ms=0)
    assert await care.keep_caps() == 2
    assert levels(caplog) == [logging.WARNING, logging.ERROR]
    assert "2 dead letters were removed for good" in caplog.text
    assert await partition.left() == list(range(3, 13))
    assert await partition.trimmed() == 2


async def test_a_cap_is_kept_however_many_are_above_it(partition: Partition) -> None:
    message = Message(b"x", "in.a", None, 1, 1)
    blob = pack_dead_letter(DeadLetter(message, "preprocess", "was wrong", 1))
    pipeline = partition.store.redis.pipeline(transaction=False)
    for _ in range(20_000):
        pipeline.xadd(PartitionKeys(partition.scope).dead, {"letter": blob})
    await pipeline.execute()
    assert await partition.care(max_dead_letters=100).keep_caps() == 19_900
    assert len(await partition.left()) == 100
    assert await partition.trimmed() == 19_900


async def test_a_header_with_a_name_that_nats_refuses_holds_no_copy_up(
    partition: Partition,
) -> None:
    await partition.client.jetstream().add_stream(
        StreamConfig(name=partition.copies, subjects=[partition.copies])
    )
    headers = {"": "nameless", "a@\0b": "odd", "Good": "\ufffd"}
    message = Message(b"x", "in.a", headers, 1, 1)
    blob = pack_dead_letter(DeadLetter(message, "preprocess", "was wrong", 1))
    await partition.store.redis.xadd(PartitionKeys(partition.scope).dead, {"letter": blob})
    assert await partition.copy(ack="stored") == 1
    copy = await partition.client.jetstream().get_msg(partition.copies, 1)
    assert copy.headers is not None
    assert copy.headers["a%40%00b"] == "odd"
    assert copy.headers["Good"] == "%EF%BF%BD"


async def test_copies_of_a_flood_do_not_keep_the_caps_waiting(partition: Partition) -> None:
    await partition.client.jetstream().add_stream(
        StreamConfig(name=partition.copies, subjects=[partition.copies])
    )
    await partition.give_up(2_500, age_ms=0)
    care = partition.care(copies=True, max_dead_letters=100)
    assert await care._mirror(partition.copies)  # there are more, and the caps come first
    assert await care.keep_caps() == 1_000 + 24  # whole groups were copied, and no others go
    while await care._mirror(partition.copies):
        await care.keep_caps()
    await care.keep_caps()
    assert await partition.left() == list(range(2_401, 2_501))
    stream = await partition.client.jetstream().stream_info(partition.copies)
    assert stream.state.messages == 2_500


async def test_a_cap_on_their_age_warns_once_at_80_percent_and_then_removes_what_is_older(
    partition: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    await partition.give_up(2, age_ms=9 * HOUR_MS)
    await partition.give_up(3, age_ms=HOUR_MS)
    care = partition.care(dead_letter_age="10h")
    for _ in range(2):
        assert await care.keep_caps() == 0
    assert levels(caplog) == [logging.WARNING]
    assert "the oldest dead letter is 32400 s old" in caplog.text
    assert "limits.dead_letter_age" in caplog.text
    assert await partition.care(dead_letter_age="8h").keep_caps() == 2
    assert await partition.left() == [3, 4, 5]
    assert await partition.trimmed() == 2


async def test_without_caps_nothing_is_ever_removed(partition: Partition) -> None:
    await partition.give_up(3, age_ms=10_000 * HOUR_MS)
    assert await partition.care().keep_caps() == 0
    assert await partition.left() == [1, 2, 3]


async def test_a_cap_on_their_bytes_warns_once_at_80_percent_and_then_removes_the_oldest(
    partition: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    care = partition.care(max_dead_letter_bytes="200kB")
    letters = DeadLetterStore(partition.store)
    assert await letters.size(partition.scope) == 0
    await partition.give_up(7, age_ms=0, data=b"x" * 20_000)
    assert await care.keep_caps() == 0
    assert levels(caplog) == []
    await partition.give_up(2, age_ms=0, data=b"x" * 20_000)
    for _ in range(2):
        assert await care.keep_caps() == 0
    assert levels(caplog) == [logging.WARNING]
    assert "of at most 200000 bytes" in caplog.text
    assert "limits.max_dead_letter_bytes" in caplog.text
    await partition.give_up(11, age_ms=0, data=b"x" * 20_000)
    removed = await care.keep_caps()
    assert levels(caplog) == [logging.WARNING, logging.ERROR]
    assert await letters.size(partition.scope) <= 200_000
    left = await partition.left()
    assert left == list(range(removed + 1, 21))
    assert 8 <= len(left) <= 9
    assert await partition.trimmed() == removed


async def test_a_cap_on_their_bytes_spares_what_no_copy_was_sent_of(partition: Partition) -> None:
    await partition.give_up(5, age_ms=0, data=b"x" * 20_000)
    care = partition.care(copies=True, max_dead_letter_bytes="30kB")
    assert await care.keep_caps() == 0
    keys = PartitionKeys(partition.scope)
    copied = [stored.entry async for stored in letters_of(partition)][1]
    await partition.store.redis.hset(keys.meta, "mirrored", copied)
    assert await care.keep_caps() == 2
    assert await partition.left() == [3, 4, 5]


async def test_with_ack_done_a_message_that_dies_again_after_a_wipe_has_one_copy(
    partition: Partition,
) -> None:
    await partition.client.jetstream().add_stream(
        name=partition.copies, subjects=[partition.copies]
    )
    await partition.give_up(2, age_ms=HOUR_MS)
    assert await partition.copy(ack="done") == 2
    await partition.wipe()
    await partition.give_up(2, age_ms=0)
    assert await partition.copy(ack="done") == 2
    # Each time that it was redriven and died again is another death.
    await partition.wipe()
    await partition.give_up(1, age_ms=0, history=[Failed("window", "was late", 5, 0)])
    assert await partition.copy(ack="done") == 3
    await partition.wipe()
    await partition.give_up(1, age_ms=0, history=[Failed("window", "was late", 6, 0)] * 20)
    assert await partition.copy(ack="done") == 4


async def test_with_ack_stored_each_letter_has_its_copy(partition: Partition) -> None:
    await partition.client.jetstream().add_stream(
        name=partition.copies, subjects=[partition.copies]
    )
    await partition.give_up(2, age_ms=HOUR_MS)
    assert await partition.copy(ack="stored") == 2
    await partition.wipe()
    await partition.give_up(2, age_ms=0)
    assert await partition.copy(ack="stored") == 4


async def test_a_letter_that_is_too_large_to_copy_holds_no_other_up(
    partition: Partition, caplog: pytest.LogCaptureFixture
) -> None:
    await partition.client.jetstream().add_stream(
        name=partition.copies, subjects=[partition.copies], max_msg_size=10_000
    )
    await partition.give_up(1, age_ms=2, data=b"x" * (partition.client.max_payload - 10))
    await partition.give_up(1, age_ms=1, data=b"x" * 20_000)
    await partition.give_up(1, age_ms=0)
    assert await partition.copy(ack="done") == 1
    told = [text for text in caplog.messages if "which is in Redis only" in text]
    assert len(told) == 2
    assert partition.client.is_connected
