"""A message with any header and any subject is read, live and from the stream, with one result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from sinfer.embedded.servers import NatsServer
from sinfer.nats.connection import connect
from sinfer.nats.stream_messages import StreamMessages
from sinfer.types.message import Message
from tests.integration.ingest.conftest import Store, Stream, read
from tests.support.until import until

HEADERS = [
    b"NATS/1.0\r\nGood: 1\r\n\r\n",
    b"NATS/1.0\r\nA: \xff\xfe\xc3\r\nB: \xc3\xa4\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: x\r\nC: 1\r\nC: 2\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n: nameless\r\n folded\r\nD:\0\x01\r\n\r\n",
    b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    b"NATS/1.0 408 mine\r\nE: 1\r\n\r\n",
    b"NATS/1.0\r\nF: " + b"x" * 60_000 + b"\r\n\r\n",
    b"NATS/1.0",
    b"nothing of the kind at all",
    b"\r\n\r\n\r\n\r\n",
    b"\xff" * 20,
]
SUBJECTS = [b"plain", b"\xc3\xa4", b"\xff\xe2\x82", b"a\x0cb", b"a\x0bb", b'"\\<&>', b"\x01\x7f"]


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await connect([nats_server.url], name="odd")
    yield client
    await client.close()


async def test_odd_headers_and_subjects_stop_nothing(
    connection: Client, nats_client: Client, store: Store, unique: str
) -> None:
    stream = Stream(connection, unique)
    await stream.create()
    base = unique.encode()
    for number, header in enumerate(HEADERS):
        sizes = len(header), len(header) + 1
        await nats_client._send_command(
            b"HPUB %b.h%d %d %d\r\n%bx\r\n" % (base, number, *sizes, header)
        )
    for subject in SUBJECTS:
        await nats_client._send_command(b"PUB %b.%b 1\r\ny\r\n" % (base, subject))
    await nats_client.flush()
    await connection.publish(f"{unique}.last", b"last")
    await connection.flush()
    total = len(HEADERS) + len(SUBJECTS) + 1

    async def all_stored() -> bool:
        return await last_seq(stream) == total

    await until(all_stored)
    reader = await stream.open(store)
    await read(reader, store, total)
    await reader.aclose()
    messages = StreamMessages(connection, unique)
    again, through = await messages.between(1, total, [], total)
    assert through == total
    assert again == store.messages
    assert all(
        await asyncio.gather(*map(StreamMessages(connection, unique).get, range(1, total + 1)))
    )
    by_subject = {message.subject: message for message in store.messages}
    assert by_subject[f"{unique}.h0"].headers == {"Good": "1"}
    assert by_subject[f"{unique}.h1"].headers == {"A": "\ufffd\ufffd\ufffd", "B": "ä"}
    assert by_subject[f"{unique}.last"].data == b"last"
    assert connection.stats["reconnects"] == 0


async def last_seq(stream: Stream) -> int:
    info = await stream.jetstream.stream_info(stream.name)
    return int(info.state.last_seq)


def test_what_a_stream_cannot_give_becomes_a_dead_letter() -> None:
    from sinfer.nats.jetstream_api import StoredMessage
    from sinfer.nats.stream_messages import _message
    from sinfer.types.message import UNREADABLE

    stored = StoredMessage(7, "in.a", "no time", "", "eA==")
    message = _message(stored)
    assert message == Message(b"x", "in.a", {UNREADABLE: message.headers[UNREADABLE]}, 7, 0)  # type: ignore[index]
