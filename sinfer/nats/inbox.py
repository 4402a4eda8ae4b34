"""What a consumer delivers, taken in bulk, and many acknowledgements sent at once.

nats-py hands a message out through a task and a future, which costs more than all the rest of
reading it. What is used of it here is private: see ``private_names``.

A delivery has its sequences, its time and the backlog in its reply subject. Two forms exist, and
servers may add tokens to the second one:

    $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
    $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>. … .<pending>[.<token>…]
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

_LINES_AT_ONCE = 1000
_SHORT_FORM = 9

Delivery = tuple[Msg, int, int, int, int, int]
"""A message, and what ``parse_ack_subject`` says of its reply subject."""


class Inbox:
    """A subscription to a new inbox, read in bulk.

    Attributes:
        subject: where replies must be sent.
        taken: how many messages were taken so far.
    """

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription
        self._queue: asyncio.Queue[Msg] = subscription._pending_queue
        self._waited_for: Msg | None = None
        self._waiting: asyncio.Timeout | None = None
        self.subject = subscription.subject
        self.taken = 0

    @classmethod
    async def open(cls, client: Client, *, max_messages: int, max_bytes: int) -> Inbox:
        """Subscribe.

        Args:
            client: the connection.
            max_messages: nats-py drops what arrives while so many are buffered.
            max_bytes: the same in bytes of payload.
        """
        subscription = await client.subscribe(
            client.new_inbox(), pending_msgs_limit=max_messages, pending_bytes_limit=max_bytes
        )
        return cls(client, subscription)

    @property
    def buffered(self) -> int:
        """How many messages have arrived and were not taken."""
        return self._queue.qsize() + (self._waited_for is not None)

    @property
    def buffered_bytes(self) -> int:
        """Their payloads together."""
        return self._subscription._pending_size

    def take(self, limit: int) -> tuple[list[Delivery], list[Msg]]:
        """Up to ``limit`` messages that have arrived, at once: deliveries and status messages,
        each in their order.

        Raises:
            ValueError: what came is neither.
        """
        taken: list[Msg] = []
        if self._waited_for is not None:
            taken.append(self._waited_for)
            self._waited_for = None
        get = self._queue.get_nowait
        taken += [get() for _ in range(min(limit - len(taken), self._queue.qsize()))]
        self._subscription._pending_size -= sum([len(message.data) for message in taken])
        self.taken += len(taken)
        deliveries = [(one, *parse_ack_subject(one.reply)) for one in taken if one.reply]
        if len(deliveries) == len(taken):
            return deliveries, []
        return deliveries, [one for one in taken if not one.reply]

    async def wait(self, timeout_s: float) -> bool:
        """Wait until there is something to take; False when there was nothing for so long."""
        if self.buffered:
            return True
        try:
            async with asyncio.timeout(timeout_s) as self._waiting:
                self._waited_for = await self._queue.get()
        except TimeoutError:
            return False
        finally:
            self._waiting = None
        return True

    def wake(self) -> None:
        """Have ``wait`` return now."""
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Unsubscribe; what is buffered is dropped."""
        if not (self._client.is_closed or self._client.is_draining):
            await self._subscription.unsubscribe()


async def publish_to_each(client: Client, subjects: Sequence[str], payload: bytes) -> None:
    """Publish one payload to many subjects, with one write for a thousand of them."""
    tail = b" %d\r\n%b\r\n" % (len(payload), payload)
    for start in range(0, len(subjects), _LINES_AT_ONCE):
        lines = [
            b"PUB " + subject.encode() + tail
            for subject in subjects[start : start + _LINES_AT_ONCE]
        ]
        await client._send_command(b"".join(lines))
        await client._flush_pending()
        await asyncio.sleep(0)


def parse_ack_subject(reply: str) -> tuple[int, int, int, int, int]:
    """What a reply subject says; a plain tuple, because this runs for each message.

    Returns:
        How often the message was delivered, this time included; its sequence in the stream; the
        number of this delivery among all of the consumer's; when the message was stored
        (nanoseconds since the epoch); how many messages the consumer had yet to deliver after it.

    Raises:
        ValueError: it is no reply subject of JetStream.
    """
    tokens = reply.split(".")
    if tokens[0] != "$JS":
        raise ValueError(f"{reply!r} is no reply subject of JetStream")
    if len(tokens) == _SHORT_FORM:
        _, _, _, _, delivered, stream_seq, consumer_seq, timestamp_ns, pending = tokens
    else:
        delivered, stream_seq, consumer_seq, timestamp_ns, pending = tokens[6:11]
    return int(delivered), int(stream_seq), int(consumer_seq), int(timestamp_ns), int(pending)
