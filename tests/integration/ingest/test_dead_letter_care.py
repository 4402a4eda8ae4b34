"""The caps on dead letters: what goes, what is told before, and what stays."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client

from sinfer import InferTaskConfig, Message
from sinfer.embedded.servers import RedisServer
from sinfer.ingest.dead_letter_care import DeadLetterCare
from sinfer.windows.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.windows.dead_letters import DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.store import Store

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000


class Partition:
    """A partition with dead letters of any age."""

    def __init__(self, store: Store, client: Client, name: str) -> None:
        self.store = store
        self.client = client
        self.scope = Scope("p", name, "in")
        self._stored = 0

    def care(self, **limits: Any) -> DeadLetterCare:
        task = InferTaskConfig.model_validate(
            {
                "id": self.scope.task,
                "source": {"stream": "S"},
                "window": {"type": "count", "count": 10},
                "inference": {"type": "python", "call": "json:dumps"},
                "sinks": [{"type": "log"}],
                "limits": limits,
            }
        )
        return DeadLetterCare(self.store, self.client, self.scope, task)

    async def give_up(self, letters: int, *, age_ms: int) -> None:
        """Store letters that are so old; the oldest have to come first."""
        stored_ms = await self.store.now_ms() - age_ms
        for _ in range(letters):
            self._stored += 1
            message = Message(b"x", "in.a", None, self._stored, 1)
            letter = DeadLetter(message, "preprocess", "was wrong", stored_ms)
            await self.store.redis.xadd(
                PartitionKeys(self.scope).dead,
                {"letter": pack_dead_letter(letter)},
                id=f"{stored_ms}-{self._stored}",
            )

    async def left(self) -> list[int]:
        """Sequences of the letters that are left."""
        letters = DeadLetterStore(self.store).of_partition(self.scope, LetterFilter())
        return [stored.letter.message.stream_seq async for stored in letters]

    async def trimmed(self) -> int:
        return int(await self.store.redis.hget(PartitionKeys(self.scope).meta, "trimmed") or 0)


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
