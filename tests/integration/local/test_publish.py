"""Publishing: everything is confirmed, headers go along, and a missing stream is told."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.local.publish import publish
from sinfer.local.streams import make_streams
from sinfer.types.message import Message


async def test_messages_are_stored_in_order_with_their_headers(
    nats_client: Client, unique: str
) -> None:
    jetstream = nats_client.jetstream()
    await make_streams(jetstream, {unique: [f"{unique}.>"]})
    messages = [Message(b"m%d" % n, f"{unique}.a", {"N": str(n)}) for n in range(1234)]
    stored: list[int] = []
    count = await publish(nats_client, messages, rate=50_000, on_stored=stored.append)
    assert count == sum(stored) == 1234
    last = await jetstream.get_last_msg(unique, f"{unique}.a")
    assert (last.seq, last.data, last.headers) == (1234, b"m1233", {"N": "1233"})


async def test_a_subject_that_no_stream_takes_is_told(nats_client: Client, unique: str) -> None:
    with pytest.raises(SourceError, match=rf"no stream takes '{unique}'"):
        await publish(nats_client, [Message(b"x", unique)])


async def test_streams_are_made_and_widened_but_never_narrowed(
    nats_client: Client, unique: str
) -> None:
    jetstream = nats_client.jetstream()

    async def subjects() -> set[str]:
        return set((await jetstream.stream_info(unique)).config.subjects or [])

    await make_streams(jetstream, {unique: [f"{unique}.a", f"{unique}.b.x"]})
    await make_streams(jetstream, {unique: [f"{unique}.b.*", f"{unique}.a"]})
    assert await subjects() == {f"{unique}.a", f"{unique}.b.x"}
    await make_streams(jetstream, {unique: [f"{unique}.b.*"]}, widen=True)
    assert await subjects() == {f"{unique}.a", f"{unique}.b.*"}
