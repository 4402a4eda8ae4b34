"""The store is behind what the consumer has acknowledged, as after a failover of Redis."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec import structs
from nats.js.api import AckPolicy, DeliverPolicy, RetentionPolicy

from sinfer.source.checkpoint import UNKNOWN, pack_checkpoint
from sinfer.types.gone import Gone
from tests.integration.ingest.conftest import (
    Store,
    Stream,
    numbers,
    one_batch,
    read,
    read_quietly,
)
from tests.support.until import until

pytestmark = pytest.mark.integration


async def read_and_go_back(
    stream: Stream, store: Store, kept: int, total: int, **source: Any
) -> Store:
    """Read and acknowledge so many messages; returns a store that has the first of them."""
    reader = await stream.open(store, durable="d", **source)
    await read(reader, store, kept, max_messages=1)
    behind = store.copy()
    await read(reader, store, total, max_messages=10)
    if source.get("ack") == "done":
        assert store.state is not None
        await reader.source.done([(1, store.state.position)])
    await until(lambda: all_is_acknowledged(stream))
    await reader.aclose()
    assert not store.gone
    return behind


async def all_is_acknowledged(stream: Stream) -> bool:
    [info] = await stream.jetstream.consumers_info(stream.name)
    return info.num_ack_pending == 0 and info.num_pending == 0


@pytest.mark.parametrize("policy", [AckPolicy.EXPLICIT, AckPolicy.ALL])
async def test_what_the_stream_still_has_is_read_again_in_order(
    stream: Stream, store: Store, policy: AckPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_policy=policy)
    await stream.publish(numbers(100))
    behind = await read_and_go_back(stream, store, 40, 100)
    await stream.publish(numbers(10, 100))
    with caplog.at_level(logging.WARNING):
        reader = await stream.open(behind, durable="d")
    assert "from sequence 41 to 100 the stream is read again" in caplog.text
    await read(reader, behind, 110)
    assert behind.payloads == numbers(110)
    assert not behind.gone
    await until(reader.source.caught_up)
    await reader.aclose()


async def test_with_acks_when_done_likewise(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(60))
    behind = await read_and_go_back(stream, store, 20, 60, ack="done")
    reader = await stream.open(behind, durable="d", ack="done")
    await read(reader, behind, 60)
    assert behind.payloads == numbers(60)
    await reader.aclose()


async def test_of_other_subjects_nothing_is_read(stream: Stream, store: Store) -> None:
    await stream.create()
    subject = f"{stream.name}.b"
    await stream.publish_between_others(50)
    behind = await read_and_go_back(stream, store, 20, 50, subject=subject)
    reader = await stream.open(behind, durable="d", subject=subject)
    await read(reader, behind, 50)
    assert behind.payloads == numbers(50)
    assert not behind.gone
    await reader.aclose()


async def test_a_reader_that_ends_on_the_way_is_followed_by_one_that_goes_on(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(100))
    behind = await read_and_go_back(stream, store, 20, 100)
    for total in (40, 60, 100):
        reader = await stream.open(behind, durable="d")
        await read(reader, behind, total, max_messages=10)
        if total < 100:
            await one_batch(reader, 5)  # nobody stores it
        await reader.aclose()
    assert behind.payloads == numbers(100)
    reader = await stream.open(behind, durable="d")
    await read_quietly(reader, behind, 0.3)
    assert behind.payloads == numbers(100)
    await reader.aclose()


async def test_what_the_stream_has_no_more_is_gone_and_counted(
    stream: Stream, store: Store
) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    await stream.publish(numbers(100))
    behind = await read_and_go_back(stream, store, 40, 100)
    await stream.publish(numbers(10, 100))
    reader = await stream.open(behind, durable="d")
    await read(reader, behind, 50)
    assert behind.payloads == [*numbers(40), *numbers(10, 100)]
    assert behind.gone == [Gone(41, 100, 60)]
    await until(lambda: all_is_acknowledged(stream))
    await reader.aclose()
    # It is counted once.
    reader = await stream.open(behind, durable="d")
    await read_quietly(reader, behind, 0.3)
    assert len(behind.gone) == 1
    await reader.aclose()


async def test_a_part_that_the_stream_has_is_read_and_the_rest_counted(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(100))
    behind = await read_and_go_back(stream, store, 40, 100)
    await stream.jetstream.purge_stream(stream.name, seq=71)
    reader = await stream.open(behind, durable="d")
    await read(reader, behind, 70)
    assert behind.payloads == [*numbers(40), *numbers(30, 70)]
    assert behind.gone == [Gone(41, 70, 30)]
    await reader.aclose()


async def test_of_a_filter_as_many_are_counted_as_were_acknowledged(
    stream: Stream, store: Store
) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    subject = f"{stream.name}.b"
    await stream.publish_between_others(50)  # the numbers are messages 1, 3, 5 and so on
    behind = await read_and_go_back(stream, store, 20, 50, subject=subject)
    reader = await stream.open(behind, durable="d", subject=subject)
    await read_quietly(reader, behind, 0.3)
    [gone] = behind.gone
    assert gone.messages == 30
    assert 40 <= gone.first <= 41
    assert 99 <= gone.last <= 100
    await reader.aclose()


async def test_a_reader_that_died_with_messages_in_hand_has_lost_none(
    stream: Stream, store: Store
) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    await stream.add_durable("d", ack_wait=0.5)
    await stream.publish(numbers(60))
    for total in (20, 40, 60):
        reader = await stream.open(store, durable="d", batch=10)
        await read(reader, store, total, max_messages=10)
        if total < 60:
            await one_batch(reader, 10)  # nobody stores it, and it comes again
        await reader.aclose()
    assert sorted(store.payloads, key=int) == numbers(60)
    assert not store.gone


async def test_a_consumer_that_somebody_made_anew_begins_where_it_begins(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(40))
    behind = await read_and_go_back(stream, store, 20, 40)
    await stream.jetstream.delete_consumer(stream.name, "d")
    await stream.add_durable("d", deliver_policy=DeliverPolicy.NEW)
    reader = await stream.open(behind, durable="d")
    await stream.publish(numbers(5, 40))
    await read(reader, behind, 25)
    assert behind.payloads == [*numbers(20), *numbers(5, 40)]
    await reader.aclose()


async def test_a_state_of_an_earlier_version_reads_again_and_counts_nothing(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(40))
    behind = await read_and_go_back(stream, store, 20, 40)
    assert behind.state is not None
    behind.encoded = pack_checkpoint(structs.replace(behind.state, delivered=UNKNOWN))
    reader = await stream.open(behind, durable="d")
    await read(reader, behind, 40)
    assert behind.payloads == numbers(40)
    assert not behind.gone
    await reader.aclose()
