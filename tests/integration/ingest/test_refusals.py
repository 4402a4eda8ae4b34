"""Sources that cannot be read: refused at once, with the field and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, RetentionPolicy

from sinfer.embedded.servers import NatsServer
from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.connection import connect
from tests.integration.ingest.conftest import Store, Stream, numbers, read


async def test_a_missing_stream(stream: Stream, store: Store) -> None:
    with pytest.raises(
        SourceError, match=f"stream '{stream.name}' does not exist in JetStream; create"
    ):
        await stream.open(store)


async def test_a_stream_that_vanishes_while_it_is_read(stream: Stream, store: Store) -> None:
    await stream.create()
    await stream.publish(numbers(5))
    reader = await stream.open(store)
    await read(reader, store, 5)
    await stream.jetstream.delete_stream(stream.name)
    with pytest.raises(SourceError, match="does not exist"):
        await read(reader, store, 6)
    await reader.aclose()


@pytest.mark.parametrize(
    ("of_stream", "of_durable", "of_source", "subject", "text"),
    [
        ({}, {"deliver_subject": "out"}, {}, ">", "push consumer .deliver_subject 'out'."),
        ({}, {}, {}, "{}.b", "delivers > .filter_subject., but source.subject is {}.b"),
        (
            {},
            {"filter_subject": "{}.*"},
            {},
            "{}.b",
            r"delivers {}.\* .filter_subject., but source.subject",
        ),
        ({}, {"ack_policy": AckPolicy.NONE}, {"ack": "done"}, ">", "done needs 'explicit'"),
        ({}, {"ack_policy": AckPolicy.ALL}, {"ack": "done"}, ">", "done needs 'explicit'"),
        ({"retention": RetentionPolicy.WORK_QUEUE}, None, {"deliver": "new"}, ">", "deliver: all"),
        ({}, None, {}, "elsewhere.x", "correct source.subject, or add the subject to the stream"),
        ({"max_consumers": 1}, {}, {"durable": "other"}, ">", "raise the stream's max_consumers"),
    ],
)
async def test_what_does_not_fit_is_named_with_a_remedy(
    stream: Stream,
    store: Store,
    of_stream: dict[str, Any],
    of_durable: dict[str, Any] | None,
    of_source: dict[str, Any],
    subject: str,
    text: str,
) -> None:
    def named(value: Any) -> Any:
        return value.replace("{}", stream.name) if isinstance(value, str) else value

    await stream.create(**of_stream)
    if of_durable is not None:
        settings = {name: named(value) for name, value in of_durable.items()}
        await stream.add_durable("d", **settings)
    with pytest.raises(SourceError, match=named(text)) as raised:
        await stream.open(store, subject=named(subject), **{"durable": "d", **of_source})
    assert stream.name in str(raised.value)
    left = [info.name for info in await stream.jetstream.consumers_info(stream.name)]
    assert left == ([] if of_durable is None else ["d"])


async def test_unacknowledged_consumers_where_reading_removes(stream: Stream, store: Store) -> None:
    await stream.create(retention=RetentionPolicy.INTEREST)
    await stream.add_durable("d", ack_policy=AckPolicy.NONE)
    with pytest.raises(SourceError, match="removed before they are stored"):
        await stream.open(store, durable="d")


async def test_a_work_queue_that_another_consumer_reads(stream: Stream, store: Store) -> None:
    await stream.create(retention=RetentionPolicy.WORK_QUEUE)
    await stream.add_durable("other")
    with pytest.raises(SourceError, match="name it as"):
        await stream.open(store)


async def test_a_server_without_jetstream_is_unavailable(unique: str, store: Store) -> None:
    with NatsServer(config="accounts { A { users: [{user: a, password: a}] } }") as server:
        client = await connect([server.url.replace("//", "//a:a@")], name="test")
        with pytest.raises((UnavailableError, SourceError), match=r"[Jj]et[Ss]tream"):
            await Stream(client, unique).open(store)
        await client.close()


async def test_a_closed_connection_is_unavailable(
    nats_server: NatsServer, stream: Stream, store: Store
) -> None:
    await stream.create()
    client = Client()
    await client.connect(nats_server.url)
    reader = await stream.open(store, client=client)
    await client.close()
    with pytest.raises(UnavailableError, match="closed"):
        await reader.next_batch(10, 0.1)
    await reader.aclose()
    with pytest.raises(UnavailableError, match="closed"):
        await stream.open(store, client=client)
