"""The jetstream sink: each result a message of a JetStream stream."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any, Literal

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import APIError, NotFoundError
from pydantic import Field, field_validator

from sinfer.aio.shared import SharedByLoop
from sinfer.config.jetstream_place import NatsPlace
from sinfer.config.units import Duration
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.logging.masking import without_credentials
from sinfer.nats.config import JetStreamPart
from sinfer.nats.subjects import EVERYTHING
from sinfer.nats.whereabouts import is_not_enabled, no_jetstream, not_there
from sinfer.nats.wire import header_blocks
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.header_value import header_value
from sinfer.sinks.jetstream.check import SHORTEST_DUPLICATE_WINDOW_S, checked_subject, no_acks
from sinfer.sinks.jetstream.copies import CopyCheck
from sinfer.sinks.jetstream.publish_acks import NoStreamError, no_stream, wrong_stream
from sinfer.sinks.jetstream.publisher import JetStreamPublisher, Published
from sinfer.sinks.name_length import fitted
from sinfer.sinks.stored_keys import MOST_ENTRIES, StoredKeys
from sinfer.types.check import Checked
from sinfer.types.result import Confirmed, ResultRow, WindowResults

_log = logging.getLogger(__name__)
_SUBJECT = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
_PAGE = 1000
_READING_S = 60.0
LONGEST_NAME = 1024
"""Of the part of a name that a window gives; headers must not be longer than 64 KiB together."""

_publishers: SharedByLoop[NatsPlace, JetStreamPublisher] = SharedByLoop(JetStreamPublisher)


class JetStreamSink(Sink):
    """Publishes each result as JSON; the stream drops repeated ones.

    Headers: ``Nats-Msg-Id`` is the idempotency key, by which the stream knows a result that is
    written again within its ``duplicate_window``; ``Sinfer-Product``, ``Sinfer-Task``,
    ``Sinfer-Window`` (the id, revision included) and ``Sinfer-Closed-Ms`` (when the window closed,
    epoch). Results of a window that is run again by hand have ``~`` and the number of that run
    behind the key, so that they are stored beside those that they replace, and the key itself in
    ``Sinfer-Replaces``.

    All sinks of an event loop that write to the same place share one connection.
    """

    type = "jetstream"

    class Config(JetStreamPart, SinkConfig):
        """Settings of the jetstream sink."""

        type: Literal["jetstream"] = "jetstream"
        subject: str
        """Where to publish; a stream must cover it."""
        stream: str | None = Field(default=None, pattern=r'^[^\s.*>/\\"]+$')
        """The stream that has to cover the subject; by default any."""
        timeout: Duration = Field(default="5s", validate_default=True)
        """Longest wait for the acknowledgements of what was sent."""

        @field_validator("subject")
        @classmethod
        def _plain(cls, value: str) -> str:
            if not _SUBJECT.fullmatch(value):
                raise ValueError("is a NATS subject without wildcards or blanks, such as 'out.w1'")
            return value

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._subject: str = config.subject
        self._stream: str | None = config.stream
        self._timeout_s: float = config.timeout.total_seconds()
        self._place: NatsPlace | None = None
        self._publisher: JetStreamPublisher | None = None
        self._copies = CopyCheck(
            self._subject, self._timeout_s, is_mapped=bool(config.place.prefix)
        )
        self._checking = asyncio.Lock()
        self._is_checked = False
        self._keys: StoredKeys | None = None

    async def write(self, results: WindowResults) -> Confirmed:
        if not results.rows:
            return Confirmed()
        publisher = self._shared_publisher()
        if not self._is_checked:
            await self._check(publisher)
        datas = [row.data for row in results.rows]
        messages = list(zip(_headers(results), datas, strict=True))
        try:
            published = await publisher.publish(
                self._subject, messages, timeout_s=self._timeout_s, stream=self._stream
            )
        except NoStreamError:
            self._is_checked = False  # which tells why there is none
            raise
        refused, collided = published.refused, []
        if published.there:
            collided = await self._copies.collisions(
                await publisher.client(),
                published.stream,
                results,
                messages,
                published.there,
                sent_twice=published.sent_twice,
            )
            refused |= {place: self._collision(published, place) for place in collided}
        known = len(published.there) - len(collided)
        new = len(messages) - len(refused) - known
        confirmed = Confirmed(new, known, len(collided))
        if refused:
            ordinals = [results.rows[place].ordinal for place in refused]
            text = refused[min(refused)]
            raise SinkRejectedError(text, ordinals=ordinals, confirmed=confirmed)
        return confirmed

    def _collision(self, published: Published, place: int) -> str:
        return (
            f"stream {published.stream!r} drops a result for {self._subject!r} as a copy of message"
            f" {published.there[place]}, which is another one with the same Nats-Msg-Id; who else"
            " publishes with such ids?"
        )

    def _shared_publisher(self) -> JetStreamPublisher:
        if self._publisher is None:
            self._place = self.config.place
            self._publisher = _publishers.acquire(self._place)
        return self._publisher

    async def _check(self, publisher: JetStreamPublisher) -> None:
        """Before the first write: does a stream cover the subject, and does it know copies?

        Raises:
            SinkUnavailableError: it does not, or not as configured.
        """
        async with self._checking:
            if self._is_checked:
                return
            client = await publisher.client()
            jetstream = client.jetstream(timeout=self._timeout_s)
            try:
                name = await self._find(jetstream)
                stream = (await jetstream.stream_info(name)).config
            except NotFoundError:
                if self.config.place.prefix and self._stream is None:
                    # The subject may be another one in the account that it is imported from.
                    self._is_checked = True
                    return
                raise no_stream(self._subject, *await not_there(client, "")) from None
            except nats.errors.Error as error:
                if isinstance(error, APIError) and is_not_enabled(error):
                    raise SinkUnavailableError(await no_jetstream(client, "")) from None
                # Who may only publish cannot ask; the acks tell the rest.
                _log.warning(
                    "cannot look up the stream of %r (%s); its duplicate_window is not checked",
                    self._subject,
                    error or type(error).__name__,
                )
            else:
                self._check_stream(name, stream)
            self._is_checked = True

    async def _find(self, jetstream: JetStreamContext) -> str:
        """The name of the stream.

        Raises:
            NotFoundError: no stream has the subject, under this name.
        """
        try:
            return await jetstream.find_stream_name_by_subject(self._subject)
        except NotFoundError:
            if self.config.place.prefix and self._stream is not None:
                return self._stream
            raise

    def _check_stream(self, name: str, stream: StreamConfig) -> None:
        if self._stream is not None and name != self._stream:
            raise wrong_stream(self._subject, name, self._stream)
        if stream.no_ack:
            raise no_acks(name)
        if stream.duplicate_window < SHORTEST_DUPLICATE_WINDOW_S:
            _log.warning(
                "stream %r knows copies for %gs only: results that are written again later than"
                " that are stored twice; set its duplicate_window to 2m or more",
                name,
                stream.duplicate_window,
            )

    async def check(self) -> list[Checked]:
        return await checked_subject(
            self.config.place, self._subject, self._stream, self._timeout_s
        )

    @property
    def server(self) -> str:
        return ", ".join(map(without_credentials, self.config.place.servers))

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        if self._keys is None:
            self._keys = await self._read_keys()
        return self._keys.of(windows, _message_id)

    async def _read_keys(self) -> StoredKeys:
        """Go through the headers of all results on the subject."""
        client = await self._shared_publisher().client()
        jetstream = client.jetstream(timeout=self._timeout_s)
        keys = StoredKeys()
        try:
            stream = await self._find(jetstream)
            info = await jetstream.stream_info(stream, subjects_filter=self._subject)
            expected = (info.state.subjects or {}).get(self._subject, 0)
            subject = self._subject
            if not expected and self.config.place.prefix:  # where it may be another one
                expected, subject = info.state.messages, EVERYTHING
            if expected > MOST_ENTRIES:
                raise SinkUnavailableError(f"{self._subject!r} has {expected} messages")
            subscription = await jetstream.pull_subscribe(
                subject,
                stream=stream,
                config=ConsumerConfig(
                    ack_policy=AckPolicy.NONE,
                    headers_only=True,
                    inactive_threshold=_READING_S,
                    filter_subject=subject,
                ),
            )
            read = 0
            try:
                while read < expected:
                    for message in await subscription.fetch(_PAGE, timeout=self._timeout_s):
                        read += 1
                        headers = message.headers or {}
                        keys.add(headers.get("Nats-Msg-Id", ""), headers.get("Sinfer-Replaces", ""))
            finally:
                await subscription.unsubscribe()
        except NotFoundError:
            raise no_stream(self._subject, *await not_there(client, "")) from None
        except nats.errors.Error as error:
            raise SinkUnavailableError(
                f"the results on {self._subject!r} cannot be read: {error or type(error).__name__}"
            ) from error
        return keys

    async def aclose(self) -> None:
        if self._place is not None:
            place, self._place, self._publisher = self._place, None, None
            await _publishers.release(place)


def _message_id(results: WindowResults, row: ResultRow) -> str:
    """The ``Nats-Msg-Id`` of a result that was not run again."""
    prefix = header_value(_fitted(results.key_prefix))
    return f"{prefix}/{row.ordinal}{header_value(results.key_suffix)}"


def _fitted(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else fitted(name, LONGEST_NAME)


def _headers(results: WindowResults) -> list[bytes]:
    """The headers of each result."""
    key_prefix, key_suffix, copy_suffix = results.key_parts
    names = [_fitted(results.window_id), _fitted(key_prefix), key_suffix, copy_suffix]
    joined = "".join(names)
    if not (joined.isascii() and joined.isprintable()):
        names = [header_value(name) for name in names]
    window, prefix, key_end, copy_end = names
    ordinals = [row.ordinal for row in results.rows]
    own = [f"Nats-Msg-Id:{prefix}/{n}{copy_end}\r\n".encode() for n in ordinals]
    if results.run:
        own = [
            line + f"Sinfer-Replaces:{prefix}/{n}{key_end}\r\n".encode()
            for line, n in zip(own, ordinals, strict=True)
        ]
    return header_blocks(
        [
            ("Sinfer-Product", results.product),
            ("Sinfer-Task", results.task),
            ("Sinfer-Window", window),
            ("Sinfer-Closed-Ms", str(results.closed_ms)),
        ],
        own,
    )
