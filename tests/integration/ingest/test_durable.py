"""Durable consumers: bound with their own policy, acknowledged only when stored, kept small."""

from __future__ import annotations

import logging

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerInfo, DeliverPolicy, RetentionPolicy

from sinfer.embedded.servers import NatsServer
from sinfer.errors import StreamResetError
from sinfer.ingest.choice import durable_name
from sinfer.nats_connection import connect
from sinfer.products.task import JetStreamSource, StartSequence
from tests.integration.ingest.conftest import (
    Store,
    Stream,
    numbers,
    one_batch,
    read,
    read_quietly,
    until,
)


async def _unacknowledged(stream: Stream, durable: str = "d") -> int | None:
    info: ConsumerInfo = await stream.jetstream.consumer_info(stream.name, durable)
    return info.num_ack_pending


async def test_it_is_made_with_explicit_acks_where_it_is_missing(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(6))
    subject = f"{stream.name}.a"
    reader = await stream.open(store, subject=subject, durable="d", deliver=StartSequence(seq=3))
    config = (await stream.jetstream.consumer_info(stream.name, "d")).config
    assert config.ack_policy == AckPolicy.EXPLICIT
    assert config.ack_wait == 30
    assert config.filter_subject == subject
    assert reader.max_ack_pending == config.max_ack_pending == 65_536
    assert reader.mode == (
        "durable 'd' (a durable is named; made by sinfer): messages are acknowledged when stored"
    )
    await read(reader, store, 4)
    assert store.payloads == numbers(4, 2)
    await reader.aclose()


async def test_nothing_is_acknowledged_before_it_is_stored(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(10))
    reader = await stream.open(store, durable="d")
    batch = await one_batch(reader)
    assert await _unacknowledged(stream) == 10
    store.commit(batch)
    assert await _unacknowledged(stream) == 10
    await reader.committed(batch)

    async def all_acknowledged() -> bool:
        return await _unacknowledged(stream) == 0

    await until(all_acknowledged)
    await reader.aclose()


async def test_redeliveries_out_of_order_add_nothing_and_lose_nothing(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.4)
    await stream.publish(numbers(60))
    other = await stream.jetstream.pull_subscribe_bind("d", stream.name)
    for message in (await other.fetch(9))[::2]:
        await message.nak(delay=1)  # 0, 2, 4, 6, 8 come after a second, 1, 3, 5, 7 after 0.4
    await other.unsubscribe()
    reader = await stream.open(store, batch=5, durable="d")
    held = [await one_batch(reader, 5)]
    while not any(batch.duplicates for batch in held):
        batch = await reader.next_batch(5, 1.0)  # so slow to store that some come again before
        held += [batch] if batch is not None else []
    for batch in held:
        store.commit(batch)
        await reader.committed(batch)
    await read(reader, store, 60)

    async def all_is_settled() -> bool:
        await read_quietly(reader, store, 0.1)
        return await _unacknowledged(stream) == 0 and reader.state.ahead == []

    await until(all_is_settled)
    assert store.payloads != numbers(60)
    assert sorted(store.payloads, key=int) == numbers(60)
    assert store.duplicates > 0
    await reader.aclose()


async def test_the_next_reader_takes_over_without_loss_or_duplicate(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.5)
    await stream.publish(numbers(1000))
    for _ in range(4):
        connection = await nats.connect(nats_server.url)
        reader = await stream.open(store, client=connection, batch=50, durable="d")
        for _ in range(3):
            batch = await one_batch(reader, 50)
            store.commit(batch)
            await reader.committed(batch)
        store.commit(await one_batch(reader, 50))  # stored, and killed before the acknowledgement
        await one_batch(reader, 50)
        await connection.close()
        await reader.aclose()
    reader = await stream.open(store, durable="d")
    await read(reader, store, 1000)
    await read_quietly(reader, store, 1.0)
    assert sorted(store.payloads, key=int) == numbers(1000)
    assert store.duplicates > 0
    assert await _unacknowledged(stream) == 0
    await reader.aclose()


async def test_what_was_not_stored_is_given_back_when_a_reader_closes(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(100))
    reader = await stream.open(store, batch=20, durable="d")  # its ack_wait is 30 s
    await one_batch(reader, 10)
    await reader.aclose()
    reader = await stream.open(store, durable="d")
    await read(reader, store, 100)
    assert sorted(store.payloads, key=int) == numbers(100)
    await reader.aclose()


async def test_the_state_stays_small_whatever_the_filter_leaves_out(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.5, filter_subject=f"{stream.name}.b")
    await stream.publish_between_others(600)
    connection = await nats.connect(nats_server.url)
    reader = await stream.open(store, client=connection, batch=100, durable="d")
    assert await reader.next_batch(1, 0) is None
    inbox = reader._inbox
    assert inbox is not None
    await inbox.wait(5.0)
    inbox.take(10)  # lost on the way: what follows is ahead of it
    store.commit(await one_batch(reader, 100))
    assert store.state is not None
    assert len(store.state.ahead) == 1
    await connection.close()
    await reader.aclose()
    reader = await stream.open(store, durable="d")
    await read(reader, store, 600)

    async def has_closed_all_gaps() -> bool:
        await read_quietly(reader, store, 0.2)
        return reader.state.ahead == []

    await until(has_closed_all_gaps)
    assert sorted(store.payloads, key=int) == numbers(600)
    assert reader.state.position >= 1199
    await reader.aclose()


async def test_ack_all_never_acknowledges_what_an_earlier_reader_had_in_hand(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable(
        "d", ack_policy=AckPolicy.ALL, ack_wait=1.0, filter_subject=f"{stream.name}.b"
    )
    await stream.publish_between_others(300)
    earlier = await stream.jetstream.pull_subscribe_bind("d", stream.name)
    assert len(await earlier.fetch(50)) == 50
    await earlier.unsubscribe()
    reader = await stream.open(store, batch=100, durable="d")
    batch = await one_batch(reader, 100)
    assert batch.messages[0].data == b"50"
    store.commit(batch)
    await reader.committed(batch)
    await stream.client.flush()
    info = await stream.jetstream.consumer_info(stream.name, "d")
    assert info.ack_floor is not None
    assert info.ack_floor.stream_seq == 0
    await read(reader, store, 300)

    async def all_acknowledged() -> bool:
        await read_quietly(reader, store, 0.1)
        return await _unacknowledged(stream) == 0

    await until(all_acknowledged)
    assert sorted(store.payloads, key=int) == numbers(300)
    assert reader.state.ahead == []
    await reader.aclose()


@pytest.mark.parametrize("retention", [RetentionPolicy.WORK_QUEUE, RetentionPolicy.INTEREST])
async def test_without_a_durable_named_one_is_made_where_the_stream_needs_it(
    stream: Stream, store: Store, retention: RetentionPolicy
) -> None:
    await stream.create(retention=retention)
    reader = await stream.open(store)
    assert f"{retention.value} retention needs one" in reader.mode
    await stream.publish(numbers(10))
    await read(reader, store, 10)
    await reader.aclose()
    await stream.publish(numbers(10, 10))
    reader = await stream.open(store)
    await read(reader, store, 20)
    assert store.payloads == numbers(20)

    async def is_empty() -> bool:
        return (await stream.jetstream.stream_info(stream.name)).state.messages == 0

    await until(is_empty)
    assert f"sinfer_{stream.name}-0" in reader.mode
    await reader.aclose()


async def test_a_durable_made_anew_starts_behind_the_position(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(100))
    reader = await stream.open(store, durable="d")
    await read(reader, store, 100)
    await reader.aclose()
    await stream.jetstream.delete_consumer(stream.name, "d")
    await stream.publish(numbers(10, 100))
    reader = await stream.open(store, durable="d")
    await read(reader, store, 110)
    assert store.payloads == numbers(110)
    assert store.duplicates == 0
    await reader.aclose()


async def test_a_durable_that_someone_made_anew_further_on_is_told(
    stream: Stream, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.create()
    await stream.publish(numbers(10))
    reader = await stream.open(store, durable="d")
    await read(reader, store, 10)
    await reader.aclose()
    await stream.publish(numbers(10, 10))
    await stream.jetstream.delete_consumer(stream.name, "d")
    await stream.add_durable("d", deliver_policy=DeliverPolicy.NEW)
    with caplog.at_level(logging.WARNING):
        reader = await stream.open(store, durable="d")
    assert "was made anew; it starts behind sequence 20, the position was 10" in caplog.text
    await reader.aclose()


async def test_what_has_arrived_counts_although_the_durable_is_made_anew_further_on(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(20))
    reader = await stream.open(store, durable="d", batch=10)
    store.commit(await one_batch(reader, 5))
    await stream.jetstream.delete_consumer(stream.name, "d")
    await stream.add_durable("d", deliver_policy=DeliverPolicy.NEW)
    await read(reader, store, 15)
    await stream.publish(numbers(5, 20))
    await read(reader, store, 20)
    assert store.payloads[:15] == numbers(15)
    await reader.aclose()


async def test_a_durable_with_a_limit_of_deliveries_is_told(
    stream: Stream, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.create()
    await stream.add_durable("d", max_deliver=3)
    with caplog.at_level(logging.WARNING):
        reader = await stream.open(store, durable="d")
    assert "max_deliver 3" in caplog.text
    await reader.aclose()


async def test_limits_of_the_durable_for_requests_are_kept(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.client.request(
        f"$JS.API.CONSUMER.CREATE.{stream.name}.d",
        b'{"stream_name": "%s", "config": {"durable_name": "d", "name": "d", "max_batch": 7,'
        b' "max_expires": 1000000000, "max_bytes": 2000, "max_waiting": 1, "max_ack_pending": 5,'
        b' "ack_policy": "explicit"}}' % stream.name.encode(),
    )
    await stream.publish([*numbers(40), b"x" * 5000, *numbers(40, 40)])
    reader = await stream.open(store, durable="d")
    await read(reader, store, 81)
    assert [data for data in store.payloads if len(data) < 5000] == numbers(80)
    await reader.aclose()


async def test_each_partition_has_a_durable_of_its_own(stream: Stream) -> None:
    await stream.create()
    await stream.publish(numbers(5), "p1")
    await stream.publish(numbers(5, 5), "p2")
    subjects = [f"{stream.name}.p1", f"{stream.name}.p2"]
    source = JetStreamSource(stream=stream.name, durable="d", partitions=subjects)
    assert durable_name(source, subjects[0]) != durable_name(source, subjects[1])
    for place, subject in enumerate(subjects):
        store = Store()
        reader = await stream.open(store, subject=subject, durable="d", partitions=subjects)
        await read(reader, store, 5)
        assert store.payloads == numbers(5, 5 * place)
        await reader.aclose()


@pytest.mark.parametrize("policy", [AckPolicy.EXPLICIT, AckPolicy.ALL])
async def test_a_restart_of_the_server_in_mid_stream_changes_nothing(policy: AckPolicy) -> None:
    with NatsServer() as server:
        client = await connect([server.url], name="test")
        stream, store = Stream(client, "S"), Store()
        await stream.create()
        await stream.add_durable("d", ack_policy=policy, ack_wait=1.0)
        await stream.publish(numbers(2000))
        reader = await stream.open(store, batch=50, durable="d")
        for total in (300, 900):
            await read(reader, store, total)
            batch = await one_batch(reader, 50)
            server.process.kill()
            store.commit(batch)
            await reader.committed(batch)
            await read_quietly(reader, store, 0.5)
            server.start()
        await read(reader, store, 2000)
        await read_quietly(reader, store, 1.5)
        assert sorted(store.payloads, key=int) == numbers(2000)
        assert await _unacknowledged(stream) == 0
        await reader.aclose()
        await client.close()


async def test_a_stream_made_anew_stops_the_reader(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(5))
    reader = await stream.open(store, durable="d")
    await read(reader, store, 5)
    await stream.jetstream.delete_stream(stream.name)
    await stream.create()
    await stream.publish(numbers(9))
    with pytest.raises(StreamResetError, match="was deleted and made anew"):
        await read(reader, store, 6)
    await reader.aclose()
