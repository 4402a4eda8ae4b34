"""JetStream's part of the demonstration: make streams, publish the messages, read the results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from sinfer.encoding import from_json
from sinfer.products.scenario import Case

_BATCH = 500
CLOSED_HEADER = "Sinfer-Closed-Ms"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A result as it stands in JetStream.

    Attributes:
        result: what the product made.
        stored_ms: when JetStream stored it, milliseconds since the epoch.
        closed_ms: when its window closed, milliseconds since the epoch.
    """

    result: Mapping[str, Any]
    stored_ms: float
    closed_ms: float


async def make_streams(jetstream: JetStreamContext, streams: Mapping[str, Sequence[str]]) -> None:
    """Create streams that are not there yet."""
    for name, subjects in streams.items():
        await jetstream.add_stream(name=name, subjects=list(subjects))


async def publish(
    jetstream: JetStreamContext, cases: Iterable[Case], on_stored: Callable[[int], None]
) -> None:
    """Publish messages, a batch at a time, and have JetStream confirm each.

    Args:
        on_stored: is called with the size of each batch that is stored.

    Raises:
        nats.errors.Error: a message was not stored.
    """
    batch: list[asyncio.Future[Any]] = []

    async def settle() -> None:
        await asyncio.gather(*batch)
        on_stored(len(batch))
        batch.clear()

    for case in cases:
        batch.append(await jetstream.publish_async(case.subject, case.data))
        if len(batch) == _BATCH:
            await settle()
    await settle()


async def results(jetstream: JetStreamContext, subject: str) -> AsyncGenerator[list[Arrival], None]:
    """All results of a subject, as they arrive; an empty list after each second without any."""
    stream = await jetstream.find_stream_name_by_subject(subject)
    subscription = await jetstream.pull_subscribe(
        subject, stream=stream, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    try:
        while True:
            try:
                messages = await subscription.fetch(_BATCH, timeout=1)
            except TimeoutError:  # nats.errors.TimeoutError is one of them
                messages = []
            _raise_if_cancelled()
            yield [
                Arrival(
                    from_json(message.data),
                    message.metadata.timestamp.timestamp() * 1000,
                    float((message.headers or {}).get(CLOSED_HEADER, "nan")),
                )
                for message in messages
            ]
    finally:
        await subscription.unsubscribe()


def _raise_if_cancelled() -> None:
    """The client's ``fetch`` can take a cancellation for a time-out and swallow it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
