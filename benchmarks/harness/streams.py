"""The streams of a run: where messages are put beforehand, and where results are counted."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.client import Client

from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.wire import send

WARM_IN, WARM_OUT = "WARM_IN", "WARM_OUT"
"""Streams of the warm-up."""
TIMED_IN, TIMED_OUT = "IN", "OUT"
"""Streams of the timed part."""

_AT_ONCE = 500


def subject(stream: str) -> str:
    """The one subject of a stream."""
    return f"bench.{stream.lower()}"


async def make_streams(client: Client) -> None:
    """Make all streams, on disk and with limits retention as JetStream does by default."""
    for name in (WARM_IN, WARM_OUT, TIMED_IN, TIMED_OUT):
        await client.jetstream().add_stream(name=name, subjects=[subject(name)])


async def fill(client: Client, stream: str, messages: Sequence[bytes]) -> None:
    """Publish messages, and see that JetStream has stored all of them.

    Raises:
        RuntimeError: some were not stored.
    """
    to = subject(stream).encode()
    before = await stored(client, stream)
    for start in range(0, len(messages), _AT_ONCE):
        *most, last = messages[start : start + _AT_ONCE]
        await send(client, [b"PUB %b %d\r\n%b\r\n" % (to, len(data), data) for data in most])
        await client.request(to.decode(), last, timeout=10)
    if (found := await stored(client, stream) - before) != len(messages):
        raise RuntimeError(f"{found} of {len(messages)} messages were stored in {stream}")


async def stored(client: Client, stream: str) -> int:
    """How many messages a stream holds."""
    return (await JetStreamApi(client, stream).stream_info()).state.messages
