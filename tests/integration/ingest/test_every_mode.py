"""What holds in every mode: each message once, whatever happens between reading and storing."""

from __future__ import annotations

import time
from typing import Any

import nats
import pytest
from nats.js.api import AckPolicy, RetentionPolicy

from sinfer.source.attachment import Attachment
from tests.integration.ingest.conftest import Store, Stream, numbers, one_batch, read, read_quietly
from tests.support.reading import acknowledge, inbox_of, pull_of
from tests.support.until import until

MODES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    # settings of: the stream, an existing durable, the source
    "position": ({}, None, {}),
    "durable made here": ({}, None, {"durable": "d"}),
    "existing explicit": ({}, {"ack_wait": 1.0}, {"durable": "d"}),
    "existing all": ({}, {"ack_policy": AckPolicy.ALL, "ack_wait": 1.0}, {"durable": "d"}),
    "existing none": ({}, {"ack_policy": AckPolicy.NONE}, {"durable": "d"}),
    "work queue": ({"retention": RetentionPolicy.WORK_QUEUE}, {"ack_wait": 1.0}, {"durable": "d"}),
    "interest": ({"retention": RetentionPolicy.INTEREST}, {"ack_wait": 1.0}, {"durable": "d"}),
    "done": ({}, {"ack_wait": 1.0, "max_ack_pending": 50_000}, {"durable": "d", "ack": "done"}),
}


@pytest.fixture(params=list(MODES))
async def source(
    request: pytest.FixtureRequest, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A stream and a consumer for one of the modes; the settings of a source that uses them."""
    monkeypatch.setattr("sinfer.source.durable.ACK_WAIT_S", 1.0)
    of_stream, of_durable, of_source = MODES[request.param]
    await stream.create(**of_stream)
    if of_durable is not None:
        await stream.add_durable("d", **of_durable)
    return of_source


async def read_what_comes_again(stream: Stream, reader: Attachment, store: Store) -> None:
    """Read until nothing can come again: all is acknowledged, or ``ack_wait`` has passed."""
    deadline = time.monotonic() + 1.5
    left = 1
    while left and time.monotonic() < deadline:
        await read_quietly(reader, store, 0.1)
        consumers = await stream.jetstream.consumers_info(stream.name)
        left = sum((consumer.num_ack_pending or 0) for consumer in consumers)


async def test_20_000_messages_come_once_and_in_order(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    await stream.publish(numbers(20_000))
    reader = await stream.open(store, **source)
    await read(reader, store, 20_000)
    await read_quietly(reader, store, 0.3)
    assert store.payloads == numbers(20_000)
    assert store.duplicates == 0
    assert store.pending == 0
    await reader.aclose()


async def test_batches_that_were_not_stored_are_read_again_and_the_others_are_not(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    await stream.publish(numbers(3000))
    url = stream.client.connected_url
    assert url is not None
    for committed, crashes in ((0, True), (1, False), (2, True), (3, False)):
        connection = await nats.connect(url.geturl())
        reader = await stream.open(store, client=connection, batch=100, **source)
        for _ in range(committed):
            batch = await one_batch(reader, 100)
            store.commit(batch)
            await acknowledge(batch)
        stored_only = await one_batch(reader, 100)
        store.commit(stored_only)
        await one_batch(reader, 100)
        if crashes:
            await connection.close()
        await reader.aclose()
        await connection.close()
    reader = await stream.open(store, **source)
    await read(reader, store, 3000)
    await read_what_comes_again(stream, reader, store)
    assert store.payloads == numbers(3000)
    await reader.aclose()


async def test_a_consumer_that_is_deleted_underneath_changes_nothing(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    await stream.publish(numbers(3000))
    reader = await stream.open(store, batch=100, **source)
    await read(reader, store, 500)
    for consumer in await stream.jetstream.consumers_info(stream.name):
        await stream.jetstream.delete_consumer(stream.name, consumer.name)
    if "durable" in source:

        async def has_a_consumer() -> bool:
            await read_quietly(reader, store, 0.1)
            return bool(await stream.jetstream.consumers_info(stream.name))

        await until(has_a_consumer)
    await stream.publish(numbers(1000, 3000))
    kept = (await stream.jetstream.stream_info(stream.name)).config.retention
    if kept != RetentionPolicy.INTEREST:
        await read(reader, store, 4000)
        assert sorted(store.payloads, key=int) == numbers(4000)
    await reader.aclose()


async def test_a_consumer_that_goes_without_a_word_is_noticed(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    reader = await stream.open(store, **source)
    await read_quietly(reader, store, 0.1)
    inbox = inbox_of(reader)
    for consumer in await stream.jetstream.consumers_info(stream.name):
        await stream.jetstream.delete_consumer(stream.name, consumer.name)
        if "durable" in source:
            await stream.jetstream.add_consumer(stream.name, consumer.config)
    assert await inbox.wait(5.0)
    inbox.take(inbox.buffered)  # older servers do not tell that the consumer was deleted
    await stream.publish(numbers(10))
    await read(reader, store, 10)
    assert store.payloads == numbers(10)
    await reader.aclose()


async def test_messages_that_get_lost_on_the_way_come_again(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    reader = await stream.open(store, batch=100, **source)
    for start in range(0, 500, 100):
        await stream.publish(numbers(100, start))
        inbox = inbox_of(reader)
        batch = await reader.next_batch(40, 1.0)
        if batch is not None:
            store.commit(batch)
            await acknowledge(batch)
        for _ in range(30):  # as a slow consumer in the client would lose them
            if inbox.buffered:
                dropped, statuses = inbox.take(1)
                pull_of(reader)._took(len(dropped), statuses)
    await read(reader, store, 500)
    await read_what_comes_again(stream, reader, store)
    assert sorted(store.payloads, key=int) == numbers(500)
    await reader.aclose()


async def test_a_filter_leaves_holes_that_are_not_waited_for(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    await stream.jetstream.purge_stream(stream.name)
    if "durable" in source:
        before = (await stream.jetstream.consumers_info(stream.name)) or []
        for consumer in before:
            settings = consumer.config
            await stream.jetstream.delete_consumer(stream.name, "d")
            settings.filter_subject = f"{stream.name}.b"
            await stream.jetstream.add_consumer(stream.name, settings)
    reader = await stream.open(store, subject=f"{stream.name}.b", **source)
    for number in range(200):
        await stream.client.publish(f"{stream.name}.a", b"other")
        await stream.client.publish(f"{stream.name}.b", b"%d" % number)
        await stream.client.publish(f"{stream.name}.c", b"other")
    await read(reader, store, 200)
    assert store.payloads == numbers(200)
    assert store.state is not None
    assert store.state.ahead == []
    assert store.state.position == store.messages[-1].stream_seq
    await reader.aclose()


async def test_everything_a_message_can_hold_comes_through(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    reader = await stream.open(store, **source)
    large = bytes(range(256)) * 36_000  # above 8 MiB, the most that a request asks for
    publish = stream.jetstream.publish
    await publish(f"{stream.name}.empty", b"")
    await publish(f"{stream.name}.status", b"", headers={"Status": "408", "Description": "mine"})
    await publish(f"{stream.name}.deep.er", b"x", headers={"Nats-Last-Consumer": "99"})
    ack = await publish(f"{stream.name}.large", large)
    await stream.client._send_command(_with_repeated_header(f"{stream.name}.twice"))
    stored = await stream.jetstream.get_msg(stream.name, ack.seq)
    await read(reader, store, 5)
    empty, status, deep, big, twice = store.messages
    assert (empty.data, empty.headers) == (b"", None)
    assert (status.data, status.headers) == (b"", {"Status": "408", "Description": "mine"})
    assert (deep.subject, deep.headers) == (
        f"{stream.name}.deep.er",
        {"Nats-Last-Consumer": "99"},
    )
    assert big.data == large
    assert big.stream_seq == ack.seq
    assert twice.headers == {"A": "ä", "B": "b"}
    assert stored.time is not None
    assert abs(big.timestamp - stored.time.timestamp()) < 1e-5
    await reader.aclose()


def _with_repeated_header(subject: str) -> bytes:
    header = "NATS/1.0\r\nA: first\r\nA: ä\r\nB:  b \r\n\r\n".encode()
    return b"HPUB %s %d %d\r\n%sx\r\n" % (subject.encode(), len(header), len(header) + 1, header)


async def test_caught_up_is_true_only_when_nothing_is_left(
    stream: Stream, store: Store, source: dict[str, Any]
) -> None:
    reader = await stream.open(store, **source)
    await until(reader.source.caught_up)
    await stream.publish(numbers(10))
    assert not await reader.source.caught_up()
    batch = await one_batch(reader, 4)
    assert not await reader.source.caught_up()
    store.commit(batch)
    await acknowledge(batch)
    await read(reader, store, 10)
    await until(reader.source.caught_up)
    await reader.aclose()
