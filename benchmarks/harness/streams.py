"""The streams of a run: where messages are put beforehand, and where results are counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from nats.aio.client import Client
from nats.js.api import RetentionPolicy

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


async def make_streams(client: Client, *, work_queue: bool = False) -> None:
    """Make all streams, on disk and with limits retention as JetStream does by default.

    Args:
        client: of the server.
        work_queue: those that are read have work-queue retention instead.
    """
    for name in (WARM_IN, WARM_OUT, TIMED_IN, TIMED_OUT):
        is_queue = work_queue and name in (WARM_IN, TIMED_IN)
        await client.jetstream().add_stream(
            name=name,
            subjects=[subject(name)],
            retention=RetentionPolicy.WORK_QUEUE if is_queue else RetentionPolicy.LIMITS,
        )


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


async def publish(client: Client, stream: str, messages: Sequence[bytes], rate: float) -> None:
    """Publish so many messages a second, each by itself."""
    started = time.monotonic()
    for number, data in enumerate(messages):
        early_s = started + number / rate - time.monotonic()
        if early_s > 0:
            await asyncio.sleep(early_s)
        await client.publish(subject(stream), data)
    await client.flush()


async def stored(client: Client, stream: str) -> int:
    """How many messages a stream holds."""
    return (await JetStreamApi(client, stream).stream_info()).state.messages
