"""Taking messages in bulk, and sending many lines at once.

nats-py hands a message out through a task and a future, which costs more than all the rest of
reading it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sinfer.nats.private_names import arrived, arrived_bytes, note_taken, write

_LINES_AT_ONCE = 1000


class Inbox:
    """A subscription to a new inbox, read in bulk.

    Attributes:
        subject: where replies must be sent.
        taken: how many messages were taken so far.
    """

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription
        self._queue = arrived(subscription)
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
        return arrived_bytes(self._subscription)

    def take(self, limit: int) -> list[Msg]:
        """Up to ``limit`` messages that have arrived, in order, at once."""
        taken: list[Msg] = []
        if self._waited_for is not None:
            taken.append(self._waited_for)
            self._waited_for = None
        get = self._queue.get_nowait
        taken += [get() for _ in range(min(limit - len(taken), self._queue.qsize()))]
        note_taken(self._subscription, sum([len(message.data) for message in taken]))
        self.taken += len(taken)
        return taken

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
        await write(client, b"".join(lines))
        await asyncio.sleep(0)
