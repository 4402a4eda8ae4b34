"""Publishing messages to JetStream at a steady rate, each of them confirmed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError
from nats.js.errors import Error as JetStreamError

from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.whereabouts import OF_SETTINGS, is_not_enabled, no_jetstream
from sinfer.types.message import Message

_MOST_AT_ONCE = 500
_BATCHES_PER_S = 20
_TIMEOUT_S = 10.0


async def publish(
    client: Client,
    messages: Iterable[Message],
    *,
    rate: float | None = None,
    on_stored: Callable[[int], None] = lambda count: None,
) -> int:
    """Publish messages and wait until all are stored.

    Args:
        client: the connection.
        messages: each with a subject.
        rate: messages a second; None for as fast as it goes.
        on_stored: is called with the size of each batch that is stored.

    Returns:
        How many they were.

    Raises:
        SourceError: no stream takes a subject.
        UnavailableError: JetStream did not confirm.
    """
    jetstream = client.jetstream()
    size = _MOST_AT_ONCE
    if rate is not None:
        size = max(1, min(size, round(rate / _BATCHES_PER_S)))
    batch: list[Message] = []
    count = 0
    began = time.monotonic()

    async def store() -> None:
        acks = [
            await jetstream.publish_async(message.subject, message.data, headers=message.headers)
            for message in batch
        ]
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(*acks)
        on_stored(len(batch))

    try:
        for message in messages:
            batch.append(message)
            count += 1
            if len(batch) >= size:
                await store()
                batch = []
                if rate is not None:
                    await asyncio.sleep(began + count / rate - time.monotonic())
        await store()
    except NoStreamResponseError:
        if not await _has_jetstream(jetstream):
            raise UnavailableError(await no_jetstream(client, OF_SETTINGS)) from None
        raise SourceError(
            f"no stream takes {batch[0].subject!r}; make one, as with"
            f" `nats stream add NAME --subjects {batch[0].subject}`"
        ) from None
    except (NatsError, JetStreamError, TimeoutError) as error:
        raise UnavailableError(f"NATS did not confirm: {error or type(error).__name__}") from error
    return count


async def _has_jetstream(jetstream: JetStreamContext) -> bool:
    try:
        await jetstream.account_info()
    except APIError as error:
        return not is_not_enabled(error)
    except (NatsError, TimeoutError):
        pass
    return True
