"""Reading by position: where it starts, what it leaves behind, and when it refuses to go on."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy

from sinfer.embedded.servers import NatsServer
from sinfer.errors import StreamResetError
from sinfer.nats.connection import connect
from sinfer.source.attachment import Attachment
from sinfer.source.checkpoint import pack_checkpoint
from sinfer.source.config import JetStreamSource, StartSequence, StartTime
from sinfer.source.source_partition import SourcePartition
from tests.integration.ingest.conftest import (
    TIMING,
    Store,
    Stream,
    numbers,
    one_batch,
    read,
    read_quietly,
)
from tests.support.reading import inbox_of
from tests.support.until import until


async def test_the_mode_says_what_is_in_force_and_why(stream: Stream, store: Store) -> None:
    await stream.create()
    reader = await stream.open(store)
    assert reader.source.terms.text.startswith("position: without acknowledgements")
    assert "limits retention" in reader.source.terms.text
    assert reader.source.terms.max_ack_pending is None
    await reader.aclose()


async def test_a_start_at_new_messages_survives_a_restart_before_the_first_one(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(5))
    reader = await stream.open(store, deliver="new")
    first = await reader.next_batch(10, 0.1)
    assert first is not None
    assert first.messages == []
    store.commit(first)
    await reader.aclose()
    await stream.publish(numbers(5, 5))
    reader = await stream.open(store, deliver="new")
    await read(reader, store, 5)
    assert store.payloads == numbers(5, 5)
    await reader.aclose()


async def test_a_start_at_new_messages_works_on_an_empty_stream(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    reader = await stream.open(store, deliver="new")
    first = await reader.next_batch(10, 0.1)
    assert first is not None
    store.commit(first)
    await reader.aclose()
    await stream.publish(numbers(3))
    reader = await stream.open(store, deliver="new")
    await read(reader, store, 3)
    assert store.payloads == numbers(3)
    await reader.aclose()


async def test_it_starts_at_a_sequence_or_a_time_and_later_at_the_position(
    stream: Stream,
) -> None:
    await stream.create()
    await stream.publish(numbers(3))
    stored = await stream.jetstream.get_msg(stream.name, 3)
    assert stored.time is not None
    middle = stored.time + timedelta(microseconds=1)
    await stream.publish(numbers(3, 3))
    for deliver in (
        StartSequence(seq=4),
        StartTime(time=middle),
        StartTime(time=middle.astimezone(UTC).replace(tzinfo=None)),
    ):
        store = Store()
        reader = await stream.open(store, deliver=deliver)
        batch = await one_batch(reader, 2)
        store.commit(batch)
        await reader.aclose()
        reader = await stream.open(store, deliver=deliver)
        await read(reader, store, 3)
        assert store.payloads == numbers(3, 3)
        await reader.aclose()


async def test_a_start_beyond_the_end_waits_for_it_over_a_lost_consumer(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(2))
    reader = await stream.open(store, deliver=StartSequence(seq=6))
    assert await reader.next_batch(10, 0.1) is None
    (consumer,) = await stream.jetstream.consumers_info(stream.name)
    await stream.jetstream.delete_consumer(stream.name, consumer.name)
    await stream.publish(numbers(6, 2))
    await read(reader, store, 3)
    assert store.payloads == numbers(3, 5)
    await reader.aclose()


async def test_nothing_is_left_on_the_server_after_closing(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(10))
    reader = await stream.open(store)
    await read(reader, store, 10)
    (consumer,) = await stream.jetstream.consumers_info(stream.name)
    assert consumer.config.ack_policy == AckPolicy.NONE
    assert consumer.config.mem_storage
    assert consumer.config.inactive_threshold == 300
    await reader.aclose()
    assert await stream.jetstream.consumers_info(stream.name) == []


async def test_a_lost_last_message_is_noticed_although_nothing_follows(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    reader = await stream.open(store)
    assert await reader.next_batch(10, 0.1) is None
    await stream.publish(numbers(5))
    inbox = inbox_of(reader)

    async def has_arrived() -> bool:
        return inbox.buffered >= 5

    await until(has_arrived)
    first = inbox._queue.get_nowait()
    while not inbox._queue.empty():
        inbox._queue.get_nowait()
    inbox._queue.put_nowait(first)
    await read(reader, store, 5)
    assert store.payloads == numbers(5)
    await reader.aclose()


async def test_messages_that_the_client_drops_come_again(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(2000))
    errors: list[Exception] = []

    async def on_error(error: Exception) -> None:
        errors.append(error)

    client = Client()
    await client.connect(nats_server.url, error_cb=on_error)
    reader = await stream.open(store, client=client, batch=200)
    inbox = inbox_of(reader)
    inbox._queue._maxsize = 50  # type: ignore[attr-defined]
    await read(reader, store, 2000)
    assert errors, "nothing was dropped"
    assert store.payloads == numbers(2000)
    await reader.aclose()
    await client.close()


async def test_a_durable_without_acknowledgements_gives_its_place_and_filter_only(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.add_durable("d", ack_policy=AckPolicy.NONE, filter_subject=f"{stream.name}.b")
    await stream.publish(numbers(4), "b")
    await stream.publish([b"other"], "a")
    used = await stream.jetstream.pull_subscribe_bind("d", stream.name)
    assert [message.data for message in await used.fetch(2)] == numbers(2)
    reader = await stream.open(store, durable="d")
    assert "'d' has ack policy none" in reader.source.terms.text
    await read(reader, store, 2)
    assert store.payloads == numbers(2, 2)
    await reader.aclose()


async def test_a_stream_made_anew_stops_the_reader_and_says_what_to_do(
    stream: Stream, store: Store
) -> None:
    await stream.create()
    await stream.publish(numbers(5))
    reader = await stream.open(store)
    await read(reader, store, 5)
    await stream.jetstream.delete_stream(stream.name)
    await stream.create()
    await stream.publish(numbers(9))
    with pytest.raises(
        StreamResetError, match=f"stream '{stream.name}' was deleted and made again"
    ):
        await read(reader, store, 6)
    await reader.aclose()
    with pytest.raises(StreamResetError, match="was deleted and made again"):
        await stream.open(store)


async def test_a_stream_that_was_rolled_back_stops_the_reader(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(5))
    reader = await stream.open(store)
    await read(reader, store, 5)
    await reader.aclose()
    assert store.state is not None
    created = store.state.stream_created
    store.encoded = pack_checkpoint(type(store.state)(created, 8))
    with pytest.raises(StreamResetError, match=r"up to sequence 8 .* ends at 5"):
        await stream.open(store)


async def test_messages_that_limits_removed_unread_are_told(
    stream: Stream, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    await stream.create(max_msgs=10)
    await stream.publish(numbers(5))
    reader = await stream.open(store)
    await read(reader, store, 5)
    await reader.aclose()
    await stream.publish(numbers(20, 5))
    reader = await stream.open(store)
    await read(reader, store, 15)
    assert "removed 10 messages before they were read, the last of them between" in caplog.text
    assert "between sequences 6 and 15" in caplog.text
    assert store.payloads == [*numbers(5), *numbers(10, 15)]
    await reader.aclose()


async def test_a_reader_shares_its_connection_with_others(stream: Stream) -> None:
    await stream.create()
    stores = [Store() for _ in range(4)]
    readers = [
        await Attachment.open(
            stream.client,
            SourcePartition(
                JetStreamSource(stream=stream.name),
                f"{stream.name}.p{place}",
                f"{stream.name}-{place}",
            ),
            timing=TIMING,
        )
        for place in range(4)
    ]
    for number in range(400):
        await stream.client.publish(f"{stream.name}.p{number % 4}", b"%d" % number)
    for place, (reader, store) in enumerate(zip(readers, stores, strict=True)):
        await read(reader, store, 100)
        assert store.payloads == [b"%d" % number for number in range(place, 400, 4)]
    for reader in readers:
        await reader.aclose()


async def test_an_outage_is_waited_out() -> None:
    with NatsServer() as server:
        client = await connect([server.url], name="test")
        stream, store = Stream(client, "S"), Store()
        await stream.create()
        await stream.publish(numbers(1000))
        reader = await stream.open(store, batch=50)
        await read(reader, store, 300)
        server.process.kill()
        await read_quietly(reader, store, 1.0)
        assert await reader.next_batch(10, 0.05) is None
        assert not await reader.source.caught_up()
        server.start()
        await read(reader, store, 1000)
        await stream.publish(numbers(10, 1000))
        await read(reader, store, 1010)
        assert store.payloads == numbers(1010)
        await reader.aclose()
        await client.close()


@pytest.mark.parametrize("durable", [None, "d"])
async def test_a_server_that_stalls_is_waited_for(durable: str | None) -> None:
    with NatsServer() as server:
        client = await connect([server.url], name="test")
        stream, store = Stream(client, "S"), Store()
        await stream.create()
        if durable is not None:
            await stream.add_durable(durable, ack_wait=0.5)
        await stream.publish(numbers(1000))
        reader = await stream.open(store, batch=50, durable=durable)
        for total in (200, 500):
            await read(reader, store, total)
            server.process.signal(signal.SIGSTOP)
            await read_quietly(reader, store, 1.2)
            server.process.signal(signal.SIGCONT)
        await read(reader, store, 1000)
        await read_quietly(reader, store, 0.7)
        assert sorted(store.payloads, key=int) == numbers(1000)
        await reader.aclose()
        await client.close()


def test_start_times_without_a_zone_are_utc() -> None:
    from sinfer.source.start import start_of

    source = JetStreamSource(stream="S", deliver=StartTime(time=datetime(2026, 1, 2, 3)))
    assert start_of(source)["opt_start_time"] == "2026-01-02T03:00:00Z"
