"""Durable consumers: bound with their own policy, acknowledged only when stored, kept small."""

from __future__ import annotations

import logging

import nats
import pytest
from nats.js.api import AckPolicy, ConsumerInfo, DeliverPolicy, RetentionPolicy

from sinfer.embedded.servers import NatsServer
from sinfer.errors import StreamResetError
from sinfer.nats.connection import connect
from sinfer.nats.inbox import Inbox
from sinfer.source import backfill as missed
from sinfer.source.attachment import Attachment
from sinfer.source.choice import durable_name
from sinfer.source.config import JetStreamSource, StartSequence
from tests.integration.ingest.conftest import (
    DEADLINE_S,
    Store,
    Stream,
    numbers,
    one_batch,
    read,
    read_quietly,
)
from tests.support.reading import acknowledge, inbox_of
from tests.support.until import until


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
    assert reader.source.terms.max_ack_pending == config.max_ack_pending == 65_536
    assert reader.source.terms.text == (
        "durable 'd' (a durable is named; made by sinfer): messages are acknowledged when stored"
    )
    await read(reader, store, 4)
    assert store.payloads == numbers(4, 2)
    await reader.aclose()


async def test_nothing_is_acknowledged_before_it_is_stored(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(10))
    reader = await stream.open(store, durable="d")
    batches = [await one_batch(reader)]
    while sum(len(batch.messages) for batch in batches) < 10:
        batches.append(await one_batch(reader))
    assert await _unacknowledged(stream) == 10
    for batch in batches:
        store.commit(batch)
    assert await _unacknowledged(stream) == 10
    for batch in batches:
        await acknowledge(batch)

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
        await acknowledge(batch)
    await read(reader, store, 60)

    async def all_is_settled() -> bool:
        await read_quietly(reader, store, 0.1)
        return await _unacknowledged(stream) == 0 and reader.source.state.ahead == []

    await until(all_is_settled)
    assert store.payloads != numbers(60)
    assert sorted(store.payloads, key=int) == numbers(60)
    assert store.duplicates > 0
    await reader.aclose()


@pytest.mark.parametrize(
    ("retention", "policy"),
    [
        (RetentionPolicy.LIMITS, AckPolicy.EXPLICIT),
        (RetentionPolicy.LIMITS, AckPolicy.ALL),
        (RetentionPolicy.WORK_QUEUE, AckPolicy.EXPLICIT),
    ],
)
async def test_the_next_reader_takes_over_in_order_without_loss_or_duplicate(
    nats_server: NatsServer,
    stream: Stream,
    store: Store,
    retention: RetentionPolicy,
    policy: AckPolicy,
) -> None:
    await stream.create(retention=retention)
    await stream.add_durable("d", ack_policy=policy, ack_wait=0.5)
    await stream.publish(numbers(1000))
    for _ in range(4):
        connection = await nats.connect(nats_server.url)
        reader = await stream.open(store, client=connection, batch=50, durable="d")
        for _ in range(3):
            batch = await one_batch(reader, 50)
            store.commit(batch)
            await acknowledge(batch)
        store.commit(await one_batch(reader, 50))  # stored, and killed before the acknowledgement
        await one_batch(reader, 50)
        await connection.close()
        await reader.aclose()
    reader = await stream.open(store, durable="d")
    await read(reader, store, 1000)
    await until(reader.source.caught_up)

    async def all_acknowledged() -> bool:
        await read_quietly(reader, store, 0.1)
        return await _unacknowledged(stream) == 0

    await until(all_acknowledged)
    assert store.payloads == numbers(1000)
    assert reader.source.state.ahead == []
    await reader.aclose()


async def test_a_first_reader_that_dies_before_it_stores_anything_leaves_the_order(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(10))
    connection = await nats.connect(nats_server.url)
    reader = await stream.open(store, client=connection, durable="d")  # its ack_wait is 30 s
    await _stored_start(reader, store)
    await one_batch(reader)
    await connection.close()
    await reader.aclose()
    await stream.publish(numbers(5, 10))
    reader = await stream.open(store, durable="d")
    await read(reader, store, 15)
    assert store.payloads == numbers(15)
    assert await reader.source.caught_up()
    await reader.aclose()


async def _stored_start(reader: Attachment, store: Store) -> None:
    start = await reader.next_batch(500, DEADLINE_S)
    assert start is not None
    assert start.messages == []
    store.commit(start)


async def test_what_the_store_forgot_comes_before_all_else_where_order_matters(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=1.0)
    await stream.publish(numbers(20))
    connection = await nats.connect(nats_server.url)
    reader = await stream.open(store, client=connection, durable="d")
    await read(reader, store, 1, max_messages=1)
    for _ in range(4):
        await one_batch(reader, 2)
    await connection.close()
    await reader.aclose()
    await stream.publish(numbers(5, 20))
    wiped = Store()
    reader = await stream.open(wiped, durable="d", by_event_time=True)
    assert reader.source.terms.starts_over
    await _stored_start(reader, wiped)
    await read(reader, wiped, 3, max_messages=3)
    await reader.aclose()
    # Another goes on at once, before anything can come again.
    reader = await stream.open(wiped, durable="d", by_event_time=True)
    assert not reader.source.terms.starts_over
    await read(reader, wiped, 24)
    assert wiped.payloads == numbers(24, 1)
    await until(reader.source.caught_up)
    await reader.aclose()


async def test_without_the_permission_to_read_the_stream_redeliveries_are_waited_for(
    unique: str, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(missed, "_PATIENCE_S", 0.0)
    users = """authorization { users: [
        {user: all, password: all},
        {user: few, password: few, permissions: {publish: {deny: ["$JS.API.STREAM.MSG.GET.>"]}}}
    ]}"""
    with NatsServer(config=users) as server:
        everything = await nats.connect(server.url, user="all", password="all")
        stream = Stream(everything, unique)
        await stream.create()
        await stream.add_durable("d", ack_wait=1.0)
        await stream.publish(numbers(10))
        reader = await stream.open(store, durable="d")
        await _stored_start(reader, store)
        await one_batch(reader)
        await everything.close()
        await reader.aclose()

        async def ignore(error: Exception) -> None:
            """The server's complaint comes here too."""

        few = await nats.connect(server.url, user="few", password="few", error_cb=ignore)
        reader = await Stream(few, unique).open(store, durable="d")
        reader.source._backfill._messages.api._timeout_s = 0.1  # type: ignore[attr-defined]
        await read(reader, store, 10)
        assert sorted(store.payloads, key=int) == numbers(10)
        assert "cannot be read from the stream" in caplog.text
        await reader.aclose()
        await few.close()


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


async def test_what_was_lost_on_the_way_is_read_from_the_stream_in_order(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_wait=0.5, filter_subject=f"{stream.name}.b")
    await stream.publish_between_others(600)
    reader = await stream.open(store, batch=100, durable="d")
    await _stored_start(reader, store)
    await read(reader, store, 10, max_messages=10)
    inbox = inbox_of(reader)
    await until_there(inbox, 30)
    inbox.take(30)
    await read(reader, store, 600)
    assert store.payloads == numbers(600)
    assert reader.source.state.ahead == []
    assert reader.source.state.position >= 1199

    async def all_acknowledged() -> bool:
        await read_quietly(reader, store, 0.1)
        return await _unacknowledged(stream) == 0

    await until(all_acknowledged)
    assert store.payloads == numbers(600)
    assert store.duplicates > 0
    await reader.aclose()


async def until_there(inbox: Inbox, messages: int) -> None:
    async def has_arrived() -> bool:
        return inbox.buffered >= messages

    await until(has_arrived)


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
    await acknowledge(batch)
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
    assert reader.source.state.ahead == []
    await reader.aclose()


@pytest.mark.parametrize("retention", [RetentionPolicy.WORK_QUEUE, RetentionPolicy.INTEREST])
async def test_without_a_durable_named_one_is_made_where_the_stream_needs_it(
    stream: Stream, store: Store, retention: RetentionPolicy
) -> None:
    await stream.create(retention=retention)
    reader = await stream.open(store)
    assert f"{retention.value} retention needs one" in reader.source.terms.text
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
    assert f"sinfer_{stream.name}-0" in reader.source.terms.text
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
            await acknowledge(batch)
            await read_quietly(reader, store, 0.5)
            server.start()
        await read(reader, store, 2000)
        await read_quietly(reader, store, 1.5)
        assert store.payloads == numbers(2000)
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
    with pytest.raises(StreamResetError, match="was deleted and made again"):
        await read(reader, store, 6)
    await reader.aclose()
