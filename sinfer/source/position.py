"""Reading by position: short-lived consumers without acknowledgements.

The position in the store is the only truth. A consumer starts behind it and numbers its
deliveries from 1, so that anything lost shows as a gap; then it is thrown away, and a new one
starts behind what was read last.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any

from nats.aio.msg import Msg

from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.ack_subject import parse_ack_subject
from sinfer.nats.inbox import Inbox
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import ConsumerConfig, ConsumerInfo, StreamInfo
from sinfer.nats.subjects import EVERYTHING, consumer_name
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import SourceState
from sinfer.source.mode import ReadingMode, after, check_identity, start_of
from sinfer.source.source_partition import SourcePartition
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

_DELETE_TIMEOUT_S = 2.0
_INACTIVE_NS = 300 * 10**9
"""An abandoned consumer vanishes after this."""


class PositionMode(ReadingMode):
    """See the module.

    Args:
        api: requests about the stream.
        reading: what is read, and from where on; the consumers' names begin with its name.
        start_behind: without a state, start behind this stream sequence, whatever the source says.
        text: see ``ReadingMode``.
    """

    acknowledges = False
    keeps_inbox = False

    def __init__(
        self,
        api: JetStreamApi,
        reading: SourcePartition,
        *,
        start_behind: int | None = None,
        text: str,
    ) -> None:
        self.text = text
        self.start = reading.start
        self._api = api
        self._filter = None if reading.subject == EVERYTHING else reading.subject
        self._name = reading.name
        self._state = reading.state
        self._start: dict[str, Any] | None = None
        if reading.state is None:
            begins = start_of(reading.source) if start_behind is None else after(start_behind)
            self._start = begins
        self._start_behind = start_behind
        self._initial: Batch | None = None
        self._consumer: str | None = None
        self._expected = 1

    @property
    def state(self) -> SourceState:
        assert self._state is not None, "attach comes first"
        return self._state

    def initial(self) -> Batch | None:
        batch, self._initial = self._initial, None
        return batch

    async def attach(self) -> ConsumerConfig:
        await self._delete()
        stream = await self._api.stream_info()
        state = self._state
        if state is None:
            state = self._first_state(stream)
        check_identity(stream, state)
        if self._start is None:
            self._warn_of_removed(stream, state.position)
        self._consumer = consumer_name(self._name, secrets.token_hex(4))
        info = await self._api.create_consumer(
            ConsumerConfig(
                name=self._consumer,
                description="sinfer: reads by position",
                ack_policy="none",
                filter_subject=self._filter,
                inactive_threshold=_inactive_ns(stream),
                mem_storage=True,
                num_replicas=1,
                **(after(state.position) if self._start is None else self._start),
            )
        )
        # The stream may have been made anew in between: look again, now that the consumer is on it.
        check_identity(await self._api.stream_info(), state)
        self._state = state
        self._expected = 1
        return info.config

    def _first_state(self, stream: StreamInfo) -> SourceState:
        """Where to start; a start that a restart would not find again becomes a position."""
        behind = self._start_behind
        if self._start == {"deliver_policy": "new"}:
            behind = stream.state.last_seq
        if behind is None:
            return SourceState(stream.created, 0)
        self._start = None
        state = SourceState(stream.created, behind)
        self._initial = Batch([], state)
        return state

    def _warn_of_removed(self, stream: StreamInfo, position: int) -> None:
        if 0 < position < stream.state.first_seq - 1:
            _log.warning(
                "%s: the limits of stream %s removed messages before they were read: the position"
                " is %d, the stream starts at %d",
                self._name, stream.config.name, position, stream.state.first_seq,
            )  # fmt: skip

    def read(self, deliveries: list[Msg]) -> tuple[Batch, list[Msg], str | None]:
        state = self.state
        expected = self._expected
        position = state.position
        pending = 0
        lost = None
        messages: list[Message] = []
        statuses: list[Msg] = []
        for raw in deliveries:
            if not raw.reply:
                statuses.append(raw)
                latest = (raw.headers or {}).get("Nats-Last-Consumer")
                if latest is not None and int(latest) >= expected:
                    lost = f"deliveries {expected} to {latest} did not arrive"
                    break
                continue
            _, stream_seq, consumer_seq, timestamp_ns, pending = parse_ack_subject(raw.reply)
            if consumer_seq != expected:
                lost = f"delivery {consumer_seq} came instead of {expected}"
                break
            expected += 1
            position = stream_seq
            messages.append(Message(raw.data, raw.subject, raw.headers, stream_seq, timestamp_ns))
        self._expected = expected
        if messages:
            state = self._state = SourceState(state.stream_created, position)
            self._start = None
        return Batch(messages, state, pending), statuses, lost

    def caught_up(self, info: ConsumerInfo) -> bool:
        return info.num_pending == 0 and info.delivered.consumer_seq == self._expected - 1

    async def info(self) -> ConsumerInfo | None:
        return None if self._consumer is None else await self._api.consumer_info(self._consumer)

    async def tend(self, inbox: Inbox) -> None:
        """Nothing: a gap is noticed where it is read."""

    async def committed(self, batch: Batch) -> None:
        """Nothing: the position is stored with the batch, and the server keeps none."""

    async def finished(self, ranges: list[tuple[int, int]]) -> None:
        """Nothing: there are no acknowledgements."""

    async def aclose(self, unread: list[Msg]) -> None:
        if self._api.is_connected:
            await self._delete()

    async def _delete(self) -> None:
        """Delete the consumer; where that fails, the server does it when nobody uses it."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                async with asyncio.timeout(_DELETE_TIMEOUT_S):
                    await self._api.delete_consumer(consumer)
            except (SourceError, UnavailableError, TimeoutError) as error:
                _log.debug("%s: consumer %s was not deleted: %s", self._name, consumer, error)


def _inactive_ns(stream: StreamInfo) -> int:
    limits = stream.config.consumer_limits
    allowed = limits.inactive_threshold if limits is not None else None
    return min(_INACTIVE_NS, allowed or _INACTIVE_NS)
