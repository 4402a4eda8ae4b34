"""Continuous pull: requests for messages, kept ahead of what is read, and whether they live."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.nats.client import api_prefix
from sinfer.nats.inbox import Inbox
from sinfer.nats.jetstream_types import ConsumerConfig

BUFFER_BYTES = 32 * 1024 * 1024
"""No more is asked for while so many bytes of payload wait to be read."""
REQUEST_BYTES = 8 * 1024 * 1024
"""The most that one request brings; a larger message is asked for by itself."""
DROP_BYTES = 256 * 1024 * 1024
"""nats-py drops messages above this, which requests never bring together."""

_FEW_WAITING = 8
_HELD_S = 1.0
_LOST = {"Consumer Deleted", "Leadership Change", "Server Shutdown"}


@dataclass(frozen=True, slots=True)
class PullTiming:
    """How long requests live and how soon silence is noticed.

    Attributes:
        expires_s: a request that was not filled ends after this.
        heartbeat_s: how often the server says that a request still waits. A consumer that is
            silent for twice as long is taken for lost.
        look_s: how soon a reconnect is noticed where nobody calls ``PartitionReader.wake``.
    """

    expires_s: float = 30.0
    heartbeat_s: float = 2.0
    look_s: float = 0.25


class PullRequests:
    """The requests of one inbox to one consumer.

    The server does not tell when a request is complete, nor to which request a message belongs.
    So messages are counted: those asked for, less those that were taken, less those that the
    server said it will not send.

    Args:
        client: the connection.
        inbox: where the messages go.
        stream: name of the stream.
        config: the consumer's settings; its limits for requests are kept.
        batch: how many messages a request is for; twice as many are kept asked for.
        timing: life of a request.
    """

    def __init__(
        self,
        client: Client,
        inbox: Inbox,
        *,
        stream: str,
        config: ConsumerConfig,
        batch: int,
        timing: PullTiming,
    ) -> None:
        self._client = client
        self._inbox = inbox
        self._subject = f"{api_prefix(client)}.CONSUMER.MSG.NEXT.{stream}.{config.name}"
        self._most = config.max_batch or 2 * batch
        self._batch = min(batch, self._most)
        self._one_at_a_time = 0 < (config.max_waiting or 512) < _FEW_WAITING
        self._bytes = min(REQUEST_BYTES, config.max_bytes or REQUEST_BYTES)
        expires_s = min(timing.expires_s, (config.max_expires or 1 << 62) / 1e9)
        self._heartbeat_s = min(timing.heartbeat_s, expires_s / 2)
        self._expires_s = expires_s
        self._asked = inbox.buffered
        self._large_next = False
        self._held_until = 0.0
        now = time.monotonic()
        self._latest_end = now
        self._heard_at = now
        self._waited_s = 0.0

    async def refill(self) -> None:
        """Ask for more, when less than a batch is on its way and there is room for it."""
        now = time.monotonic()
        if now > self._latest_end:
            self._asked = min(self._asked, self._inbox.buffered)
        room = 2 * self._batch - self._asked
        if room < (2 * self._batch if self._one_at_a_time else self._batch):
            return
        if self._inbox.buffered_bytes >= BUFFER_BYTES or now < self._held_until:
            return
        request = {
            "batch": 1 if self._large_next else min(room, self._most),
            "expires": round(self._expires_s * 1e9),
            "idle_heartbeat": round(self._heartbeat_s * 1e9),
        }
        if not self._large_next:
            request["max_bytes"] = self._bytes
        self._large_next = False
        self._asked += request["batch"]
        self._latest_end = now + self._expires_s + 2 * self._heartbeat_s
        await self._client.publish(
            self._subject, msgspec.json.encode(request), reply=self._inbox.subject
        )

    def took(self, messages: int) -> None:
        """So many messages were taken from the inbox."""
        self._asked = max(0, self._asked - messages)
        self._heard()

    def rested(self) -> None:
        """Nothing was asked for on purpose: silence so far means nothing."""
        self._heard()

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        self._waited_s = 0.0

    def waited(self, seconds: float) -> bool:
        """Nothing came in a wait of so long; whether the consumer must be taken for lost.

        Only time spent waiting counts: while nobody reads, heartbeats may sit in the socket.
        """
        self._waited_s += seconds
        silence = time.monotonic() - self._heard_at
        return self._waited_s > self._heartbeat_s / 2 and silence > 2 * self._heartbeat_s

    def status(self, headers: dict[str, str]) -> str | None:
        """Take note of a status message; a text when the consumer may be lost.

        Raises:
            SourceError: the server will never accept such requests.
        """
        self._heard()
        code = headers.get("Status", "")
        text = headers.get("Description", "")
        if code == "100":
            return None
        returned = headers.get("Nats-Pending-Messages")
        if returned is not None:
            self._asked = max(0, self._asked - int(returned))
        if code == "409" and text.startswith("Message Size Exceeds"):
            self._large_next = headers.get("Nats-Pending-Bytes") == str(self._bytes)
            return None
        if code == "409" and text == "Exceeded MaxWaiting":
            self._held_until = time.monotonic() + _HELD_S
            self._asked = min(self._asked, self._inbox.buffered)
            return None
        if code == "400" or text.startswith("Exceeded Max"):
            raise SourceError(f"{self._subject}: the server refuses the request: {code} {text}")
        # Others end one request, as "408 Request Timeout" and "409 Batch Completed" do.
        return f"{code} {text}".strip() if code == "503" or text in _LOST else None
