"""Continuous pull: requests for messages, kept ahead of what is read, and whether they live."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.client import api_prefix
from sinfer.nats.inbox import Delivery, Inbox
from sinfer.nats.jetstream_types import ConsumerConfig
from sinfer.source.source import IDLE, Idle, Lost
from sinfer.source.source_partition import SourcePartition

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
        look_s: how soon a reconnect is noticed where nobody calls ``Source.wake``.
    """

    expires_s: float = 30.0
    heartbeat_s: float = 2.0
    look_s: float = 0.25


class Pull:
    """What a source asks its consumer for, and what of it has come.

    The server does not tell when a request is complete, nor to which request a message belongs.
    So messages are counted: those asked for, less those that were taken, less those that the
    server said it will not send.

    Args:
        client: the connection.
        name: of the partition, for errors.
        stream: name of the stream.
        batch: how many messages a request is for; twice as many are kept asked for.
        timing: life of a request.

    Attributes:
        latest_delivery: the number of the consumer's last delivery, as it said when it had nothing
            more; 0 where it did not.
    """

    def __init__(
        self, client: Client, *, name: str, stream: str, batch: int, timing: PullTiming
    ) -> None:
        self._client = client
        self._name = name
        self._stream = stream
        self._wanted = batch
        self._timing = timing
        self._inbox: Inbox | None = None
        self._reconnects = 0
        self._lost: Lost | None = Lost("it was not attached yet")
        self._is_woken = False
        self.latest_delivery = 0

    @property
    def is_attached(self) -> bool:
        """Whether what was asked for may still come."""
        return self._lost is None and self._client.is_connected

    @property
    def taken(self) -> int:
        """How many messages were taken so far."""
        return 0 if self._inbox is None else self._inbox.taken

    @property
    def arrived(self) -> int:
        """How many messages have come so far, those that were not taken included."""
        return 0 if self._inbox is None else self._inbox.taken + self._inbox.buffered

    async def begin(self, config: ConsumerConfig, *, reconnects: int, keeps_inbox: bool) -> None:
        """Pull from a consumer.

        Args:
            config: the consumer's settings; its limits for requests are kept.
            reconnects: how often the connection had been made again before the consumer was
                looked at.
            keeps_inbox: whether messages that have arrived still count.

        Raises:
            UnavailableError: the connection takes no subscription now.
        """
        if self._inbox is None or not keeps_inbox:
            try:
                await self._change_inbox()
            except NatsError as error:
                raise UnavailableError(f"{self._name}: {error or type(error).__name__}") from error
        assert self._inbox is not None
        self._subject = f"{api_prefix(self._client)}.CONSUMER.MSG.NEXT.{self._stream}.{config.name}"
        self._most = config.max_batch or 2 * self._wanted
        self._batch = min(self._wanted, self._most)
        self._one_at_a_time = 0 < (config.max_waiting or 512) < _FEW_WAITING
        self._bytes = min(REQUEST_BYTES, config.max_bytes or REQUEST_BYTES)
        expires_s = min(self._timing.expires_s, (config.max_expires or 1 << 62) / 1e9)
        self._heartbeat_s = min(self._timing.heartbeat_s, expires_s / 2)
        self._expires_s = expires_s
        self._asked = self._inbox.buffered
        self._large_next = False
        self._held_until = 0.0
        now = time.monotonic()
        self._latest_end = now
        self._heard_at = now
        self._waited_s = 0.0
        self._reconnects = reconnects
        self.latest_delivery = 0
        self._lost = None

    async def _change_inbox(self) -> None:
        old, self._inbox = self._inbox, None
        if old is not None:
            await old.close()
        self._inbox = await Inbox.open(
            self._client, max_messages=8 * self._wanted + 1024, max_bytes=DROP_BYTES
        )

    async def next(self, max_messages: int, timeout_s: float) -> list[Delivery] | Idle | Lost:
        """What has arrived, or arrives soon. Empty when only the server said something.

        A call that is cancelled loses nothing.

        Raises:
            SourceError: the server will never accept such requests.
            UnavailableError: the connection is closed for good.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if (lost := self.cut()) is not None:
                return lost
            inbox = self._inbox
            assert inbox is not None
            try:
                await self._refill(inbox)
            except NatsError as error:
                self.lose(f"the connection takes no request: {error or type(error).__name__}")
            # Let the connection read and write, however fast batches are taken.
            await asyncio.sleep(0)
            deliveries, statuses = inbox.take(max_messages)
            if deliveries or statuses:
                self._took(len(deliveries), statuses)
                return deliveries
            if self._lost is not None:
                return self._lost
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._is_woken:
                self._is_woken = False
                return IDLE
            began_s = time.monotonic()
            if not await inbox.wait(min(left_s, self._timing.look_s)) and self._is_silent(began_s):
                return self.lose("the server is silent")

    def lose(self, reason: str) -> Lost:
        """What was asked for may not come; ``next`` says so until there is another ``begin``."""
        if self._lost is None:
            self._lost = Lost(reason)
        return self._lost

    def wake(self) -> None:
        """Have ``next`` return soon."""
        self._is_woken = True
        if self._inbox is not None:
            self._inbox.wake()

    def rested(self) -> None:
        """Nothing was asked for on purpose: silence so far means nothing."""
        self._heard_at = time.monotonic()
        self._waited_s = 0.0

    async def aclose(self) -> list[str]:
        """Read no more; returns the reply subjects of what was not taken."""
        self.lose("it is closed")
        inbox, self._inbox = self._inbox, None
        if inbox is None:
            return []
        await inbox.close()
        deliveries, _ = inbox.take(inbox.buffered)
        return [raw.reply for raw, *_ in deliveries]

    def cut(self) -> Lost | None:
        """Why nothing can come as it is; None when something can.

        Raises:
            UnavailableError: the connection is closed for good.
        """
        if self._client.is_closed:
            raise UnavailableError(f"{self._name}: the NATS connection is closed")
        if not self._client.is_connected:
            return Lost("NATS is disconnected")
        if self._lost is None and self._reconnects != self._client.stats["reconnects"]:
            self._lost = Lost("the connection was made again")
        return self._lost

    async def _refill(self, inbox: Inbox) -> None:
        """Ask for more, when less than a batch is on its way and there is room for it."""
        now = time.monotonic()
        if now > self._latest_end:
            self._asked = min(self._asked, inbox.buffered)
        room = 2 * self._batch - self._asked
        if room < (2 * self._batch if self._one_at_a_time else self._batch):
            return
        if inbox.buffered_bytes >= BUFFER_BYTES or now < self._held_until:
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
        await self._client.publish(self._subject, msgspec.json.encode(request), reply=inbox.subject)

    def _took(self, messages: int, statuses: list[Msg]) -> None:
        """Count what was taken, and take note of what the server said."""
        self._asked = max(0, self._asked - messages)
        self._heard_at = time.monotonic()
        self._waited_s = 0.0
        for status in statuses:
            headers = status.headers or {}
            self.latest_delivery = max(
                self.latest_delivery, int(headers.get("Nats-Last-Consumer", 0))
            )
            if reason := self._reason_of_loss(headers):
                self.lose(reason)

    def _is_silent(self, since_s: float) -> bool:
        """Nothing came in a wait; whether the consumer must be taken for lost.

        Only time spent waiting counts: while nobody reads, heartbeats may sit in the socket.
        """
        now_s = time.monotonic()
        self._waited_s += now_s - since_s
        is_long = self._waited_s > self._heartbeat_s / 2
        return is_long and now_s - self._heard_at > 2 * self._heartbeat_s

    def _reason_of_loss(self, headers: dict[str, str]) -> str | None:
        """Take note of a status message; a text when the consumer may be lost.

        Raises:
            SourceError: the server will never accept such requests.
        """
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
            self._asked = 0 if self._inbox is None else min(self._asked, self._inbox.buffered)
            return None
        if code == "400" or text.startswith("Exceeded Max"):
            raise SourceError(f"{self._subject}: the server refuses the request: {code} {text}")
        # Others end one request, as "408 Request Timeout" and "409 Batch Completed" do.
        return f"{code} {text}".strip() if code == "503" or text in _LOST else None


def pull_of(client: Client, reading: SourcePartition, timing: PullTiming) -> Pull:
    """What reads a partition; see ``Pull``."""
    source = reading.source
    return Pull(client, name=reading.name, stream=source.stream, batch=source.batch, timing=timing)
