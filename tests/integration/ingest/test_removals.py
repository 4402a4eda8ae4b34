"""What a stream removes before it is read is counted, in both modes, and nothing else is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.js.api import RetentionPolicy

from tests.integration.ingest.conftest import Store, Stream, numbers, one_batch, read, read_quietly
from tests.support.reading import acknowledge
from tests.support.until import until

BOTH_MODES = pytest.mark.parametrize("mode", [{}, {"durable": "d"}], ids=["position", "durable"])


class Counting(Store):
    """Adds up what batches say was removed, as the account does."""

    def __init__(self) -> None:
        super().__init__()
        self.removed = 0

    def commit(self, batch: Any) -> None:
        super().commit(batch)
        self.removed += batch.discarded

    @property
    def ranges(self) -> list[tuple[int, int]]:
        assert self.state is not None
        return self.state.removed


@pytest.fixture
def store() -> Counting:
    return Counting()


@BOTH_MODES
@pytest.mark.parametrize("subject", [">", "a"])
async def test_what_is_gone_when_a_reader_comes_back_is_counted_once(
    stream: Stream, store: Counting, mode: dict[str, Any], subject: str
) -> None:
    """The stream has one subject or many: all of them are read."""
    await stream.create(max_msgs=10)
    name = subject if subject == ">" else f"{stream.name}.>"
    await stream.publish(numbers(5))
    reader = await stream.open(store, subject=name, **mode)
    await read(reader, store, 5)
    await reader.aclose()
    await stream.publish(numbers(20, 5))
    for _ in range(2):
        reader = await stream.open(store, subject=name, **mode)
        await read_quietly(reader, store, 0.3)
        await reader.aclose()
    assert store.payloads == numbers(5) + numbers(10, 15)
    assert (store.removed, store.ranges) == (10, [(6, 15)])


@BOTH_MODES
async def test_what_is_gone_while_reading_stands_still_is_counted(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    """As under back-pressure: what was asked for before is there, what comes later overflows."""
    await stream.create(max_msgs=100)
    await stream.publish(numbers(10))
    reader = await stream.open(store, batch=10, **mode)
    await read(reader, store, 10)
    await stream.publish(numbers(4000, 10))
    await read(reader, store, 110)
    await read_quietly(reader, store, 0.3)
    await reader.aclose()
    read_numbers = [int(payload) for payload in store.payloads]
    assert read_numbers == sorted(set(read_numbers))
    assert len(read_numbers) + store.removed == 4010
    assert store.removed > 3000


@BOTH_MODES
async def test_what_lies_before_a_start_was_not_to_be_read(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    await stream.create(max_msgs=10)
    await stream.publish(numbers(30))
    reader = await stream.open(store, **mode)
    await read(reader, store, 10)
    await reader.aclose()
    assert store.removed == 0
    other = Counting()
    durable: dict[str, Any] = {"durable": "other"} if mode else {}
    reader = await stream.open(other, deliver={"seq": 25}, **durable)
    await read(reader, other, 6)
    await reader.aclose()
    assert (other.payloads, other.removed) == (numbers(6, 24), 0)


@BOTH_MODES
async def test_messages_that_somebody_deletes_or_purges_are_counted(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    await stream.create()
    await stream.publish(numbers(3))
    reader = await stream.open(store, **mode)
    await read(reader, store, 3)
    await reader.aclose()
    await stream.publish(numbers(7, 3))
    await stream.jetstream.delete_msg(stream.name, 5)
    reader = await stream.open(store, **mode)
    await read(reader, store, 9)
    assert (store.removed, store.ranges) == (1, [(5, 5)])
    await reader.aclose()
    await stream.publish(numbers(5, 10))
    await stream.jetstream.purge_stream(stream.name)
    reader = await stream.open(store, **mode)
    await read_quietly(reader, store, 0.3)
    assert (store.removed, store.ranges) == (6, [(5, 5), (11, 15)])
    await stream.publish(numbers(2, 15))
    await read(reader, store, 11)
    await reader.aclose()
    assert store.removed == 6


@BOTH_MODES
async def test_of_some_of_the_subjects_about_their_share_is_counted(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    await stream.create(max_msgs=100)
    subject = f"{stream.name}.b"
    await stream.publish_between_others(10)
    reader = await stream.open(store, subject=subject, **mode)
    await read(reader, store, 10)
    await reader.aclose()
    await stream.publish_between_others(500)
    reader = await stream.open(store, subject=subject, **mode)
    await read(reader, store, 60)
    await reader.aclose()
    assert store.removed == pytest.approx(450, abs=25)


@BOTH_MODES
async def test_of_some_of_the_subjects_what_is_gone_while_reading_stands_still_is_counted(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    await stream.create(max_msgs=200)
    subject = f"{stream.name}.b"
    await stream.publish_between_others(20)
    reader = await stream.open(store, subject=subject, batch=5, **mode)
    await read(reader, store, 10, max_messages=5)
    await asyncio.sleep(1.0)  # as under back-pressure: nobody asks
    await stream.publish_between_others(2000)
    await read(reader, store, 110)
    await read_quietly(reader, store, 0.3)
    await reader.aclose()
    assert len(store.messages) + store.removed == pytest.approx(2020, abs=60)


@BOTH_MODES
async def test_other_subjects_that_come_and_go_are_no_loss(
    stream: Stream, store: Counting, mode: dict[str, Any]
) -> None:
    """A quiet subject beside a busy one whose messages the limits remove."""
    await stream.create(max_msgs=50)
    subject = f"{stream.name}.b"
    await stream.publish(numbers(3), "b")
    reader = await stream.open(store, subject=subject, **mode)
    await read(reader, store, 3)
    await stream.publish([b"other"] * 300)
    await stream.publish(numbers(2, 3), "b")
    await read(reader, store, 5)
    await reader.aclose()
    await stream.publish([b"other"] * 300)
    reader = await stream.open(store, subject=subject, **mode)
    await read_quietly(reader, store, 0.3)
    await stream.publish(numbers(1, 5), "b")
    await read(reader, store, 6)
    await reader.aclose()
    assert store.removed == 0


async def test_what_a_work_queue_forgets_after_its_acknowledgement_is_no_loss(
    stream: Stream, store: Counting
) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    await stream.publish(numbers(20))
    reader = await stream.open(store, durable="d")
    first = await one_batch(reader, 5)
    store.commit(first)
    await acknowledge(first)
    await reader.aclose()

    async def is_forgotten() -> bool:
        return (await stream.jetstream.stream_info(stream.name)).state.messages == 15

    await until(is_forgotten)
    reader = await stream.open(store, durable="d")
    await read(reader, store, 20)
    await reader.aclose()
    assert (store.payloads, store.removed) == (numbers(20), 0)


async def test_what_was_delivered_to_a_reader_that_died_and_is_gone_is_counted(
    stream: Stream, store: Counting
) -> None:
    """To the server it is as if it was acknowledged: it counts as what the store lacks."""
    await stream.create(max_msgs=10)
    await stream.publish(numbers(10))
    reader = await stream.open(store, durable="d", batch=10)
    first = await one_batch(reader, 3)
    store.commit(first)
    await acknowledge(first)
    lost = await one_batch(reader, 3)  # is not stored
    await reader.aclose()
    await stream.publish(numbers(10, 10))
    reader = await stream.open(store, durable="d")
    await read(reader, store, len(first.messages) + 10)
    await reader.aclose()
    assert lost.messages
    assert store.removed == 0
    assert sum(one.messages for one in store.gone) == 10 - len(first.messages)
