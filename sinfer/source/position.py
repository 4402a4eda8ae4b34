"""Reading by position: short-lived consumers without acknowledgements.

The position in the store is the only truth. A consumer starts behind it and numbers its
deliveries from 1, so that anything lost shows as a gap; then it is thrown away, and a new one
starts behind what was read last.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

from nats.aio.client import Client

from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.inbox import Delivery
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import ConsumerConfig, StreamInfo
from sinfer.nats.subjects import EVERYTHING, consumer_name
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.pull import PullTiming, pull_of
from sinfer.source.removals import Removals
from sinfer.source.source import Idle, Lost, Source, Terms, Withheld
from sinfer.source.source_partition import SourcePartition
from sinfer.source.start import after, check_identity, start_of
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

_DELETE_TIMEOUT_S = 2.0
_INACTIVE_NS = 300 * 10**9
"""An abandoned consumer vanishes after this."""


class PositionSource(Source):
    """See the module.

    Args:
        client: the connection.
        api: requests about the stream.
        reading: what is read, and from where on; the consumers' names begin with its name.
        start_behind: without a state, start behind this stream sequence, whatever the source says.
        terms: see ``Source``.
        timing: how long requests live and how soon silence is noticed.
    """

    def __init__(
        self,
        client: Client,
        api: JetStreamApi,
        reading: SourcePartition,
        *,
        start_behind: int | None = None,
        terms: Terms,
        timing: PullTiming,
    ) -> None:
        terms.acknowledges = False
        terms.start = reading.start
        self.terms = terms
        self._client = client
        self._api = api
        self._filter = None if reading.subject == EVERYTHING else reading.subject
        self._name = reading.name
        self._state = reading.state
        self._removals = Removals(reading.name, reading.state.removed if reading.state else [])
        self._start: dict[str, Any] | None = None
        if reading.state is None:
            if reading.begins_behind is not None:
                start_behind = max(start_behind or 0, reading.begins_behind)
            begins = start_of(reading.source) if start_behind is None else after(start_behind)
            self._start = begins
        self._start_behind = start_behind
        self._first: Batch | None = None
        self._consumer: str | None = None
        self._expected = 1
        self._pull = pull_of(client, reading, timing)

    @property
    def state(self) -> Checkpoint:
        assert self._state is not None, "attach comes first"
        return self._state

    async def next(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        if self._first is not None:
            batch, self._first = self._first, None
            return batch
        deadline = time.monotonic() + timeout_s
        if not self._removals.is_exact:
            self._removals.begin()
        while True:
            got = await self._pull.next(max_messages, deadline - time.monotonic())
            if not isinstance(got, list):
                if not self._removals.is_exact:
                    self._removals.end(0)
                return got
            batch = self._read(got)
            if batch.messages:
                if self._removals.has_found:
                    await self._removals.judge(batch, self._api)
                    self._state = batch.state
                if not self._removals.is_exact:
                    self._removals.end(batch.pending)
                return batch

    async def attach(self) -> None:
        reconnects = self._client.stats["reconnects"]
        await self._delete()
        stream = await self._api.stream_info()
        state = self._state
        if state is None:
            state = self._first_state(stream)
        check_identity(stream, state)
        self._removals.look_at(stream, [] if self._filter is None else [self._filter])
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
        # The stream may have been made again meanwhile: look, now that the consumer is on it.
        check_identity(await self._api.stream_info(), state)
        self._state = state
        self._expected = 1
        if self._start is None and state.position < stream.state.first_seq - 1:
            self._note_removed(stream, info.num_pending)
        await self._pull.begin(info.config, reconnects=reconnects, keeps_inbox=False)

    def _first_state(self, stream: StreamInfo) -> Checkpoint:
        """Where to start; a start that a restart would not find again becomes a position."""
        behind = self._start_behind
        if self._start == {"deliver_policy": "new"}:
            behind = stream.state.last_seq
        if behind is None:
            return Checkpoint(stream.created, 0)
        self._start = None
        state = Checkpoint(stream.created, behind)
        self._first = Batch([], state, is_start=True)
        return state

    def _note_removed(self, stream: StreamInfo, pending: int) -> None:
        """The stream starts behind the position: nothing before its start will come any more."""
        state = self.state
        through = stream.state.first_seq - 1
        self._removals.estimate(stream, state.position, pending)
        self._state = Checkpoint(state.stream_created, through, removed=self._removals.ranges)
        self._first = Batch([], self._state, discarded=self._removals.take())

    def _read(self, deliveries: list[Delivery]) -> Batch:
        """Tell the messages; a gap in the numbers means that some did not arrive."""
        state = self.state
        expected = self._expected
        position = state.position
        pending = 0
        messages: list[Message] = []
        for raw, _, stream_seq, consumer_seq, timestamp_ns, left in deliveries:
            if consumer_seq != expected:
                self._pull.lose(f"delivery {consumer_seq} came instead of {expected}")
                break
            expected += 1
            if stream_seq != position + 1 and self._start is None:
                self._removals.skipped(position + 1, stream_seq - 1)
            self._start = None
            position = stream_seq
            pending = left
            messages.append(Message(raw.data, raw.subject, raw.headers, stream_seq, timestamp_ns))
        latest = self._pull.latest_delivery
        if latest >= expected:
            self._pull.lose(f"deliveries {expected} to {latest} did not arrive")
        self._expected = expected
        if messages:
            state = self._state = Checkpoint(
                state.stream_created, position, removed=self._removals.ranges
            )
        return Batch(messages, state, pending)

    def wake(self) -> None:
        self._pull.wake()

    async def done(self, ranges: list[tuple[int, int]]) -> None:
        """Nothing: there are no acknowledgements."""

    async def caught_up(self) -> bool:
        if not self._pull.is_attached or self._consumer is None:
            return False
        try:
            info = await self._api.consumer_info(self._consumer)
        except UnavailableError:
            return False
        if info is None or not self._pull.is_attached or info.num_pending:
            return False
        return info.delivered.consumer_seq == self._expected - 1

    async def withheld(self) -> Withheld | None:
        """Nothing: no acknowledgement is waited for."""
        return None

    async def aclose(self) -> None:
        await self._pull.aclose()
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
