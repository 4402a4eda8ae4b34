"""Publishes groups of messages over one NATS connection and sees each of them acknowledged."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from sinfer.aio.cancel import end
from sinfer.config.jetstream_place import NatsPlace
from sinfer.errors import ConfigError, SinkUnavailableError, UnavailableError
from sinfer.nats.client import CarefulClient
from sinfer.nats.connection import connect
from sinfer.nats.wire import Headed, encode_publish, send
from sinfer.sinks.jetstream.publish_acks import DUPLICATE, AckedGroup

_log = logging.getLogger(__name__)

MAX_GROUP_MESSAGES = 512
MAX_GROUP_BYTES = 512 * 1024
MAX_GROUPS = 32
"""Groups that wait for acks at once: 16,384 messages, and 16 MiB unless single ones are larger."""
_LOOK_S = 0.1


@dataclass(slots=True)
class Published:
    """What became of messages.

    Attributes:
        refused: those that will never be stored, by their places, and why.
        there: those that the stream says it has already, by their places, and their sequences.
        stream: the stream that said so.
        sent_twice: whether the connection was lost meanwhile, so that those may be copies of these.
    """

    refused: dict[int, str] = field(default_factory=dict)
    there: dict[int, int] = field(default_factory=dict)
    stream: str = ""
    sent_twice: bool = False

    def note(self, places: list[int], group: AckedGroup) -> None:
        """Add what became of a group that is done.

        Args:
            places: those that its messages have among all.
            group: the group.

        Raises:
            SinkUnavailableError: the group failed.
        """
        group.done.result()
        self.refused |= {places[place]: why for place, why in group.refused.items()}
        self.there |= {places[place]: seq for place, seq in group.there.items()}
        self.stream = group.stream or self.stream
        self.sent_twice |= group.sent_twice


class JetStreamPublisher:
    """One connection, and one inbox that takes the acknowledgements of all messages.

    The acks of a group end in one future, so that a message costs neither a future nor a timer.
    The reply subject of a message is ``inbox.group.place``.

    Args:
        place: where JetStream is.
    """

    def __init__(self, place: NatsPlace) -> None:
        self._place = place
        self._client: Client | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._server: tuple[Client | None, int] = (None, 0)
        self._of_server = place
        self._inbox = ""
        self._room = asyncio.Semaphore(MAX_GROUPS)
        self._groups: dict[str, tuple[Client, AckedGroup]] = {}
        self._last_group = 0

    async def client(self) -> Client:
        """The connection; made when there is none, or when it was closed for good.

        Raises:
            SinkUnavailableError: no server can be reached.
        """
        async with self._connecting:
            if self._client is not None and not self._client.is_closed:
                return self._client
            try:
                client = await connect(self._place, name="sinfer-sinks")
            except (ConfigError, UnavailableError) as error:
                raise SinkUnavailableError(str(error)) from error
            self._client = client
            self._inbox = client.new_inbox()
            try:
                await client.subscribe(f"{self._inbox}.*.*", cb=self._on_ack)
            except nats.errors.Error as error:
                raise SinkUnavailableError(f"NATS took no subscription: {error}") from error
            self._watcher = asyncio.create_task(self._watch(client))
            return client

    async def publish(
        self,
        subject: str,
        messages: Sequence[Headed],
        *,
        timeout_s: float,
        stream: str | None = None,
    ) -> Published:
        """Publish messages; when this ends, JetStream has stored all that it did not refuse.

        Messages without an ack are sent again after a reconnect: they must carry ids by which
        the stream knows copies.

        Args:
            subject: for all of them.
            messages: what to publish, in this order.
            timeout_s: longest wait for a connection, for room, and for the acks of a group.
            stream: the stream that must have stored them; None for any.

        Raises:
            SinkUnavailableError: not all of them are known to be stored.
        """
        client = await self._connected(timeout_s)
        under_way: deque[tuple[list[int], AckedGroup]] = deque()
        published = Published(_too_large(messages, client.max_payload))
        try:
            for places in _parts(messages, published.refused):
                while under_way and under_way[0][1].done.done():
                    published.note(*under_way.popleft())
                part = [messages[place] for place in places]
                group = await self._enter(client, subject, part, stream, timeout_s)
                under_way.append((places, group))
                await send(client, group.commands)
            while under_way:
                await _acked(client, under_way[0][1], subject, timeout_s)
                published.note(*under_way.popleft())
        finally:
            for _, group in under_way:
                group.done.cancel()
        return published

    async def _connected(self, timeout_s: float) -> Client:
        """The connection once it is up: what is sent while it is down would only pile up."""
        client = await self.client()
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not client.is_connected:
            if client.is_closed or asyncio.get_running_loop().time() > deadline:
                raise SinkUnavailableError(
                    f"the connection to NATS is lost and was not re-made in {timeout_s:g}s"
                )
            await asyncio.sleep(_LOOK_S)
        return client

    async def _enter(
        self,
        client: Client,
        subject: str,
        messages: Sequence[Headed],
        stream: str | None,
        timeout_s: float,
    ) -> AckedGroup:
        """Wait for room and make a group; its room is free again when it is done."""
        await self._room_for_one(timeout_s)
        self._last_group += 1
        name = str(self._last_group)
        to, inbox = subject.encode(), f"{self._inbox}.{name}".encode()
        group = AckedGroup(
            encode_publish(to, inbox, messages), subject, stream, self._place_of(client)
        )
        self._groups[name] = client, group
        group.done.add_done_callback(lambda _: self._leave(name))
        return group

    async def _room_for_one(self, timeout_s: float) -> None:
        if not self._room.locked():  # as nearly always: no timer for that
            await self._room.acquire()
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.acquire()
        except TimeoutError:
            raise SinkUnavailableError(
                f"NATS has not acknowledged what was sent before in {timeout_s:g}s"
            ) from None

    def _place_of(self, client: Client) -> NatsPlace:
        """Where acks must come from: where nothing is said, from the domain of the server."""
        place = self._place
        if place.domain or place.prefix or not isinstance(client, CarefulClient):
            return place
        server = (client, client.stats["reconnects"])
        if self._server != server:  # another one may be of another domain
            self._server, self._of_server = server, replace(place, domain=client.server_domain)
        return self._of_server

    def _leave(self, name: str) -> None:
        del self._groups[name]
        self._room.release()

    async def _on_ack(self, msg: Msg) -> None:
        name, _, place = msg.subject[len(self._inbox) + 1 :].partition(".")
        found = self._groups.get(name)
        if found is None:
            return
        _, group = found
        data, at = msg.data, int(place)
        is_plain = data.startswith(group.expected) and group.domain in data
        if not is_plain or msg.headers or DUPLICATE in data:
            group.take(at, data, msg.headers.get("Status") if msg.headers else None)
        elif not group.acked[at]:
            group.plain.add(at)
            if len(group.plain) == group.left:
                group.settle()

    async def _watch(self, client: Client) -> None:
        """Send again what a lost connection has left without an ack.

        A connection that is closed for good has a successor, whose messages are not its own.
        """
        reconnects = client.stats["reconnects"]
        while not client.is_closed:
            await asyncio.sleep(_LOOK_S)
            if client.is_connected and client.stats["reconnects"] != reconnects:
                reconnects = client.stats["reconnects"]
                try:
                    for group in self._groups_of(client):
                        group.sent_twice = True
                        await send(client, group.unacked)
                except nats.errors.Error as error:
                    _log.debug("not sent again: %s", error)
                    reconnects -= 1
        self._fail_all(client)

    def _groups_of(self, client: Client) -> list[AckedGroup]:
        return [group for through, group in self._groups.values() if through is client]

    def _fail_all(self, client: Client) -> None:
        for group in self._groups_of(client):
            group.fail(SinkUnavailableError("the connection to NATS was closed"))

    async def aclose(self) -> None:
        """Close the connection; what waits for acks fails."""
        if self._watcher is not None:
            await end(self._watcher)
        if self._client is not None:
            self._fail_all(self._client)
            await self._client.close()


async def _acked(client: Client, group: AckedGroup, subject: str, timeout_s: float) -> None:
    await asyncio.wait([group.done], timeout=timeout_s)
    if not group.done.done():
        # A server that forbids to publish answers with an error that tells of no message.
        said = str(client.last_error or "")
        raise SinkUnavailableError(
            f"{len(group.unacked)} of {len(group)} results for {subject!r} have no ack"
            f" of JetStream after {timeout_s:g}s"
            + (f"; {group.elsewhere} took some, correct 'domain'" if group.elsewhere else "")
            + (f"; the server said last: {said}" if f'"{subject.lower()}"' in said.lower() else "")
        )
    group.done.result()


def _size(message: Headed) -> int:
    return len(message[0]) + len(message[1])


def _too_large(messages: Sequence[Headed], max_payload: int) -> dict[int, str]:
    """Messages larger than the server takes; sending one would have it close the connection."""
    sizes = ((place, _size(message)) for place, message in enumerate(messages))
    return {
        place: f"result {place} has {size} bytes with its headers; NATS takes at most"
        f" {max_payload} (max_payload of the server)"
        for place, size in sizes
        if size > max_payload
    }


def _parts(messages: Sequence[Headed], left_out: Container[int]) -> Iterator[list[int]]:
    """Cut into groups of bounded count and size: the places of their messages."""
    part: list[int] = []
    total = 0
    for place, message in enumerate(messages):
        if place in left_out:
            continue
        size = _size(message)
        if part and (len(part) == MAX_GROUP_MESSAGES or total + size > MAX_GROUP_BYTES):
            yield part
            part, total = [], 0
        part.append(place)
        total += size
    if part:
        yield part
