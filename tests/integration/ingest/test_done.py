"""``ack: done``: a message stays with the server until its window is done."""

from __future__ import annotations

import nats
import pytest
from nats.js.api import ConsumerInfo, RetentionPolicy

from sinfer.embedded.servers import NatsServer
from tests.integration.ingest.conftest import Store, Stream, numbers, one_batch, read, read_quietly
from tests.support.reading import acknowledge
from tests.support.until import until


async def _waits_for(stream: Stream, count: int) -> None:
    async def so_many_unacknowledged() -> bool:
        info: ConsumerInfo = await stream.jetstream.consumer_info(stream.name, "d")
        return info.num_ack_pending == count

    await until(so_many_unacknowledged)


async def test_only_what_is_finished_is_acknowledged(stream: Stream, store: Store) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    await stream.publish(numbers(100))
    reader = await stream.open(store, durable="d", ack="done")
    assert reader.source.terms.text.endswith("messages are acknowledged when done")
    assert reader.source.terms.max_ack_pending == 1_000_000
    await read(reader, store, 100)
    await _waits_for(stream, 100)
    await reader.source.done([(1, 10), (21, 30)])
    await _waits_for(stream, 80)
    await reader.source.done([(1, 100_000)])
    await _waits_for(stream, 0)
    assert (await stream.jetstream.stream_info(stream.name)).state.messages == 0
    await reader.aclose()


async def test_unfinished_messages_are_not_delivered_again_while_the_reader_lives(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.6)
    await stream.publish(numbers(50))
    reader = await stream.open(store, durable="d", ack="done")
    await read(reader, store, 50)
    await read_quietly(reader, store, 2.0)
    assert store.duplicates == 0
    await _waits_for(stream, 50)
    assert await reader.source.caught_up()
    await reader.aclose()


async def test_after_a_failover_the_next_reader_acknowledges_what_the_first_one_read(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.6)
    await stream.publish(numbers(60))
    connection = await nats.connect(nats_server.url)
    first = await stream.open(store, client=connection, durable="d", ack="done")
    await read(first, store, 60)
    await connection.close()
    await first.source.done([(1, 20)])  # these acknowledgements are lost
    await first.aclose()

    second = await stream.open(store, durable="d", ack="done")
    assert await second.source.caught_up()
    await second.source.done([(1, 20)])

    async def all_came_again() -> bool:
        await read_quietly(second, store, 0.1)
        return store.duplicates >= 60

    await until(all_came_again)
    await _waits_for(stream, 40)
    await second.source.done([(21, 60)])
    await _waits_for(stream, 0)
    assert store.payloads == numbers(60)
    await second.aclose()


async def test_a_wiped_store_loses_nothing_that_is_not_finished(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.6)
    await stream.publish(numbers(60))
    connection = await nats.connect(nats_server.url)
    reader = await stream.open(store, client=connection, durable="d", ack="done")
    await read(reader, store, 60)
    await reader.source.done([(1, 25), (41, 60)])
    await _waits_for(stream, 15)
    await connection.close()
    await reader.aclose()
    wiped = Store()
    reader = await stream.open(wiped, durable="d", ack="done")
    await read(reader, wiped, 15)
    await read_quietly(reader, wiped, 0.8)
    assert sorted(wiped.payloads, key=int) == numbers(15, 25)
    await reader.aclose()


async def test_the_server_stops_at_max_ack_pending_and_goes_on_when_windows_are_done(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", max_ack_pending=10)
    await stream.publish(numbers(25))
    reader = await stream.open(store, durable="d", ack="done")
    assert reader.source.terms.max_ack_pending == 10
    await read(reader, store, 10)
    assert await reader.next_batch(10, 0.3) is None
    assert not await reader.source.caught_up()
    await reader.source.done([(1, 10)])
    await read(reader, store, 20)
    await reader.source.done([(11, 20)])
    await read(reader, store, 25)
    assert store.payloads == numbers(25)
    await reader.aclose()


async def test_a_message_finished_while_it_came_again_is_acknowledged(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(1))
    reader = await stream.open(store, durable="d", ack="done")
    batch = await one_batch(reader)
    await stream.client.publish(batch.deliveries[0][1], b"-NAK")
    store.commit(batch)
    await acknowledge(batch)
    await reader.source.done([(1, 1)])
    await read_quietly(reader, store, 0.3)
    await _waits_for(stream, 0)
    await reader.aclose()


@pytest.mark.parametrize("retention", [RetentionPolicy.LIMITS, RetentionPolicy.WORK_QUEUE])
async def test_without_a_durable_named_one_is_made(
    stream: Stream, store: Store, retention: RetentionPolicy
) -> None:
    await stream.create(retention=retention)
    reader = await stream.open(store, ack="done")
    assert f"durable 'sinfer_{stream.name}-0'" in reader.source.terms.text
    await reader.aclose()
