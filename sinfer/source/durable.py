"""Reading through a durable consumer, with its own policy of acknowledgement.

What is acknowledged was stored before. What comes again, in whatever order, is told by the
stored state: all up to the position and the ranges ahead of it was read.

Messages are given in the order of the stream. What the consumer delivered to somebody who is gone
would come only after its ``ack_wait``, behind newer messages, and be late in event time; so it is
read from the stream itself, and the redelivery is a duplicate. So is what was acknowledged and is
not in the store any more, as after a failover of Redis; see ``acknowledged``. After the store was
wiped the stream cannot tell which of these messages were acknowledged. In event time all behind the
consumer's ack floor is read from it then, and some of it processed once more; elsewhere order
matters less, and what was not acknowledged is taken as it comes again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any

from msgspec import structs
from nats.aio.client import Client

from sinfer.aio.wait import wait_for_event
from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.inbox import Delivery
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import ConsumerConfig, ConsumerInfo, StreamInfo
from sinfer.nats.subjects import EVERYTHING
from sinfer.source.acknowledged import Lack, acknowledged_deliveries, has_others, is_behind
from sinfer.source.acks import Acks
from sinfer.source.backfill import Backfill
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.config import StartSequence
from sinfer.source.consumer_check import check_consumer
from sinfer.source.delivery_tracker import DeliveryTracker
from sinfer.source.pull import PullTiming, pull_of
from sinfer.source.removals import Removals
from sinfer.source.source import IDLE, Idle, Lost, Source, Terms, Withheld
from sinfer.source.source_partition import SourcePartition
from sinfer.source.start import after, check_identity, start_of
from sinfer.types.gone import Gone
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

ACK_WAIT_S = 30.0
MAX_ACK_PENDING = {"stored": 65_536, "done": 1_000_000}
"""For durables made here: more than any reader has in hand, or any task in open windows."""

START_NOTED = "sinfer-start"
"""In the metadata of a durable: the number of the partition's start."""

_LEAVE_OUT = ("last", "last_per_subject")
"""Deliver policies by which a consumer leaves out messages that match its filter."""

_TEND_S = 0.5
"""How often gaps are looked after."""

_NO_ANSWER_S = 0.25
"""How soon a stream is asked again that did not answer."""

_LOOKUPS = 200


class DurableSource(Source):
    """See the module.

    Args:
        client: the connection.
        api: requests about the stream.
        reading: what is read, and from where on. Its start is noted in the settings of a durable
            that is made; without a state, one that is there says which it is.
        durable: name of the durable.
        acks: how deliveries are acknowledged, and the ack policy that this is for.
        terms: see ``Source``.
        timing: how long requests live and how soon silence is noticed.
    """

    def __init__(
        self,
        client: Client,
        api: JetStreamApi,
        reading: SourcePartition,
        *,
        durable: str,
        acks: tuple[Acks, str],
        terms: Terms,
        timing: PullTiming,
    ) -> None:
        terms.start = reading.start
        self.terms = terms
        self._by_event_time = reading.by_event_time
        self._client = client
        self._api = api
        self._source = reading.source
        self._filter = reading.subject
        self._durable = durable
        self._acks, self._policy = acks
        self._given = reading.state
        self._begins_behind = reading.begins_behind
        self._removals = Removals(reading.name, reading.state.removed if reading.state else [])
        self._tracker: DeliveryTracker | None = None
        self._stream_created = ""
        self._consumer_created = ""
        self._config: ConsumerConfig | None = None
        self._in_hand: list[Batch] = []
        self._tended_at = 0.0
        self._has_begun = False
        self._floor: tuple[int, int | None] | None = None
        self._first: Batch | None = None
        self._forgotten = 0
        self._delivered = self._delivered_when_filled = 0
        self._lack: Lack | None = None
        self._backfill = Backfill(client, reading.source.stream, durable)
        self._held: list[Delivery] = []
        self._pending = 0
        self._woken = asyncio.Event()
        self._pull = pull_of(client, reading, timing)

    @property
    def tracker(self) -> DeliveryTracker:
        assert self._tracker is not None, "attach comes first"
        return self._tracker

    @property
    def state(self) -> Checkpoint:
        tracker = self.tracker
        return Checkpoint(
            self._stream_created,
            tracker.position,
            tracker.ahead,
            self._consumer_created,
            self._forgotten,
            self._delivered,
            self._removals.ranges,
        )

    async def next(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        if self._first is not None:
            batch, self._first = self._first, None
            return batch
        deadline = time.monotonic() + timeout_s
        if not self._removals.is_exact:
            self._removals.begin()
        while True:
            left_s = deadline - time.monotonic()
            if self._backfill.ranges:
                got = await self._fill(max_messages, left_s)
            else:
                got = await self._take(max_messages, left_s)
            if isinstance(got, Batch) and self._removals.has_found:
                await self._removals.judge(got, self._api)
            if got is not IDLE:
                if not self._removals.is_exact:
                    self._removals.end(self._pending)
                return got
            if time.monotonic() >= deadline or self._woken.is_set():
                self._woken.clear()
                if not self._removals.is_exact:
                    self._removals.end(0)
                return IDLE

    async def _take(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        """What the consumer delivers; it is tended from time to time meanwhile."""
        if not self._held and time.monotonic() - self._tended_at >= _TEND_S:
            self._tended_at = time.monotonic()
            await self._tend()
        wait_s = 0.0 if self._held else min(timeout_s, _TEND_S)
        got = await self._pull.next(max_messages, wait_s)
        if isinstance(got, Lost):
            return got
        deliveries = got if isinstance(got, list) else []
        if not deliveries and not self._held:
            return IDLE
        batch = self._read(deliveries)
        return batch if batch.messages or batch.deliveries else IDLE

    async def _fill(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        """A part of what is missing, from the stream itself."""
        if (lost := self._pull.cut()) is not None:
            return lost
        filters = self._config.filters if self._config is not None else []
        asked = self._backfill.ranges[0]
        removals = self._removals if self._lack is None else None
        got = await self._backfill.fetch(self.tracker, removals, filters, max_messages)
        self._pull.rested()
        if got is None and (self._lack is None or asked in self._backfill.ranges):
            await wait_for_event(self._woken, max(0.0, min(timeout_s, _NO_ANSWER_S)))
            return IDLE
        part, messages = got or (asked, [])
        before, gone = self._delivered, self._filled(part, messages)
        batch = Batch(messages, self.state, self._pending, delivered_before=before, gone=gone)
        if self._acks.by_position:
            batch.ack = partial(self._acknowledge, batch)
        return batch

    def _filled(self, part: tuple[int, int], messages: list[Message]) -> list[Gone]:
        """Take note of what was read from the stream; returns what turns out to be gone."""
        gone: list[Gone] = []
        is_over = not self._backfill.ranges
        if self._lack is not None:
            left = self._lack.left
            gone = self._lack.looked(*part, messages)
            self._delivered += left - self._lack.left
            if is_over:
                gone += self._lack.ended()
                self._lack = None
        for one in gone:
            _log.error(
                "%s: %d messages of sequences %d to %d are gone: neither the store nor the stream"
                " has them any more", self._backfill.where, one.messages, one.first, one.last,
            )  # fmt: skip
        if is_over:
            self._delivered = max(self._delivered, self._delivered_when_filled)
        return gone

    async def attach(self) -> None:
        reconnects = self._client.stats["reconnects"]
        first_time = self._tracker is None
        state = self._given if first_time else self.state
        stream = await self._api.stream_info()
        if state is not None:
            check_identity(stream, state)
        info = await self._api.consumer_info(self._durable)
        if info is None:
            if state is not None:
                _log.warning(
                    "consumer %s of stream %s does not exist; it is made, to start behind sequence"
                    " %d", self._durable, stream.config.name, state.position,
                )  # fmt: skip
            info = await self._api.create_consumer(self._new_consumer(stream, state))
        check_consumer(stream.config.name, info, self._filter)
        if info.config.ack_policy != self._policy:
            raise SourceError(
                f"consumer {self._durable!r} of stream {stream.config.name!r} was made anew with"
                f" ack policy {info.config.ack_policy!r} in place of {self._policy!r}"
            )
        await self._api.check_acks(info.name)
        # The consumer belongs to the stream that is seen after it.
        check_identity(await self._api.stream_info(), state or Checkpoint(stream.created, 0))
        config = self._take_over(stream, info, state)
        await self._pull.begin(config, reconnects=reconnects, keeps_inbox=True)

    def _take_over(
        self, stream: StreamInfo, info: ConsumerInfo, state: Checkpoint | None
    ) -> ConsumerConfig:
        """Note where the consumer stands; no request is out, so it stands still."""
        first_time = self._tracker is None
        self._removals.look_at(stream, info.config.filters, leaves_out=_leaves_out(info))
        made_anew = state is not None and state.consumer_created not in ("", info.created)
        if made_anew and state is not None and info.ack_floor.stream_seq > state.position:
            _log.warning(
                "consumer %s of stream %s was made anew; it starts behind sequence %d, the position"
                " was %d", self._durable, stream.config.name, info.ack_floor.stream_seq,
                state.position,
            )  # fmt: skip
        if first_time:
            self._begin(stream, info, state)
        else:
            self.tracker.lose_track()
            if info.created != self._consumer_created:
                self._delivered = acknowledged_deliveries(info)
            self._floor = (_settled(info, stream.state.last_seq), None)
        self._stream_created = stream.created
        self._consumer_created = info.created
        self._config = structs.replace(info.config, name=info.name)
        limit = info.config.max_ack_pending
        self.terms.max_ack_pending = limit if limit is not None and limit > 0 else None
        discarded = self._removals.take()
        if first_time and (state is None or discarded):
            self._first = Batch([], self.state, discarded=discarded)
        return self._config

    def _look_for_removed(self, stream: StreamInfo, info: ConsumerInfo) -> None:
        """What is gone from the stream of what was not read, of all that a reader before left."""
        tracker, removals, given = self.tracker, self._removals, self._given
        if given is None or not given.position or _leaves_out(info):
            return
        through = stream.state.first_seq - 1
        if removals.is_exact:
            for first, last in tracker.missing(self._forgotten, through):
                removals.note(first, last)
        elif not tracker.ahead and tracker.position < through:
            removals.estimate(stream, tracker.position, info.num_pending)
        tracker.settle(through)

    def _skipped(self, first: int, last: int) -> None:
        """The consumer leaves these out. Before the first delivery that is its choice."""
        if self._has_begun:
            self._removals.skipped(max(first, self.tracker.position + 1), last)

    def _begin(self, stream: StreamInfo, info: ConsumerInfo, state: Checkpoint | None) -> None:
        """Find out what was delivered to an earlier reader and did not get into the store."""
        self._tracker = tracker = (
            DeliveryTracker(state.position, state.ahead)
            if state is not None
            else DeliveryTracker(0)
        )
        delivered, through = info.delivered, _settled(info, stream.state.last_seq)
        skips = info.config.deliver_policy == "last_per_subject"  # messages that the stream has
        knows = state is not None and state.consumer_created == info.created and not skips
        lacks = state is not None and knows and is_behind(state, info)
        tracker.skipped = self._skipped
        self._forgotten = state.forgotten if state is not None else 0
        self._has_begun = bool(delivered.consumer_seq or (state and state.position))
        if not lacks:  # else what is gone had been read, and is told as that
            self._look_for_removed(stream, info)
        tracker.follow(delivered.consumer_seq, delivered.stream_seq)
        if not lacks:
            tracker.settle(through)
        if state is None:
            self.terms.starts_over = delivered.consumer_seq > 0
            self.terms.repeats_to = delivered.stream_seq
            self.terms.start = start_noted(info.config)
            is_taken_as_it_comes = info.num_ack_pending and not self._by_event_time
            self._forgotten = delivered.stream_seq if is_taken_as_it_comes else 0
        tracker.give_up(self._forgotten)
        if skips:
            tracker.give_up(delivered.stream_seq)
        elif info.num_ack_pending or lacks:
            last = delivered.stream_seq if info.num_ack_pending else through
            self._backfill.ranges = tracker.missing(self._forgotten, last)
        self._delivered = acknowledged_deliveries(info)
        if state is not None and knows and (ranges := self._backfill.ranges):
            self._delivered, self._delivered_when_filled = state.delivered, self._delivered
            last = through if lacks else ranges[-1][1]
            self._lack = Lack.of(state, info, last, has_others=has_others(stream, info))
        if lacks and self._backfill.ranges:
            _log.warning(
                "%s: the store is behind what was acknowledged, as after a failover: from sequence"
                " %d to %d the stream is read again", self._backfill.where,
                self._backfill.ranges[0][0], self._backfill.ranges[-1][1],
            )  # fmt: skip

    def _new_consumer(self, stream: StreamInfo, state: Checkpoint | None) -> ConsumerConfig:
        """Settings for the durable, which does not exist: those it had, if it ever did."""
        behind = self._begins_behind
        start = start_of(self._source) if behind is None else after(behind)
        if stream.config.retention == "workqueue":
            if self._source.deliver != "all":
                raise SourceError(
                    f"stream {stream.config.name!r} is a work queue, which can only be read from"
                    " its start; use deliver: all"
                )
        elif state is not None:
            deliver = self._source.deliver
            first = deliver.seq if isinstance(deliver, StartSequence) else 0
            start = after(max(state.position, first - 1))
        if self._config is not None:
            return renewed(self._config, start, self.terms.start)
        limits = stream.config.consumer_limits
        allowed = limits.max_ack_pending if limits is not None else None
        ample = MAX_ACK_PENDING[self._source.ack]
        return ConsumerConfig(
            name=self._durable,
            durable_name=self._durable,
            description="sinfer",
            ack_policy="explicit",
            ack_wait=round(ACK_WAIT_S * 1e9),
            max_ack_pending=min(ample, allowed) if allowed is not None and allowed > 0 else ample,
            filter_subject=None if self._filter == EVERYTHING else self._filter,
            metadata={START_NOTED: str(self.terms.start)} if self.terms.start else None,
            **start,
        )

    def _read(self, deliveries: list[Delivery]) -> Batch:
        """Tell the new messages, in order; no await in here, so that a cancelled call loses none.

        Where messages before a delivery are missing, it and all behind it are held until these
        were read from the stream.
        """
        tracker, before = self.tracker, self._delivered
        accept = tracker.accept
        pending = 0
        messages: list[Message] = []
        taken: list[tuple[int, str]] = []
        if self._held:
            deliveries, self._held = self._held + deliveries, []
        for place, (raw, delivered, stream_seq, consumer_seq, stored_ns, left) in enumerate(
            deliveries
        ):
            accepted = accept(delivered, stream_seq, consumer_seq)
            if accepted is None:
                self._backfill.ranges = [tracker.missing_before(stream_seq)]
                self._held = deliveries[place:]
                break
            pending = left
            self._delivered = max(self._delivered, consumer_seq)
            taken.append((stream_seq, raw.reply))
            if accepted:
                messages.append(Message(raw.data, raw.subject, raw.headers, stream_seq, stored_ns))
        self._has_begun = self._has_begun or bool(taken)
        self._pending = pending
        batch = Batch(
            messages, self.state, pending, len(taken) - len(messages), taken,
            delivered_before=before,
        )  # fmt: skip
        if taken:
            if self._acks.keeps_deliveries:
                self._acks.took(taken)
            self._in_hand.append(batch)
            batch.ack = partial(self._acknowledge, batch)
        return batch

    async def _acknowledge(self, batch: Batch) -> None:
        """A batch is stored: acknowledge what may be acknowledged."""
        self._in_hand = [other for other in self._in_hand if other is not batch]
        await self._acks.committed(batch)

    def wake(self) -> None:
        self._woken.set()
        self._pull.wake()

    async def done(self, ranges: list[tuple[int, int]]) -> None:
        await self._acks.finished(ranges)

    async def caught_up(self) -> bool:
        info = await self._info()
        if info is None or info.num_pending or self._backfill.ranges or self._held:
            return False
        return (
            self.tracker.position >= info.delivered.stream_seq
            or info.num_ack_pending <= self._acks.outstanding
        )

    async def withheld(self) -> Withheld | None:
        limit = self.terms.max_ack_pending
        if limit is None or self._acks.outstanding < limit or not self._client.is_connected:
            return None
        try:
            info = await self._api.consumer_info(self._durable)
        except UnavailableError:
            return None
        if info is None or not info.num_pending:
            return None
        if info.num_ack_pending < (info.config.max_ack_pending or limit):
            return None  # it was raised meanwhile
        return Withheld(info.name, info.num_ack_pending, info.num_pending)

    async def _info(self) -> ConsumerInfo | None:
        """What the consumer says of itself; None where that cannot be known now."""
        if not self._pull.is_attached:
            return None
        try:
            info = await self._api.consumer_info(self._durable)
        except UnavailableError:
            return None
        return info if self._pull.is_attached else None

    async def _tend(self) -> None:
        """Close gaps in what was read: by the consumer's ack floor, and by the stream itself."""
        if self._floor is not None:
            through, mark = self._floor
            # What the server has given up on may still lie in the inbox: it counts as new.
            if mark is None:
                mark = self._pull.arrived
                self._floor = (through, mark)
            if self._pull.taken >= mark:
                self._floor = None
                self.tracker.settle(through)
                self._acks.settle(through)
        if self._floor is not None or not (self.tracker.gap or self._acks.wants_floor):
            return
        try:
            info = await self._api.consumer_info(self._durable)
            if info is not None:
                self._floor = (_settled(info), self._pull.arrived)
            if self._policy == "all":
                await self._skip_holes()
        except UnavailableError as error:
            _log.debug("consumer %s: %s", self._durable, error)

    async def _skip_holes(self) -> None:
        """Move the position over sequences that no stored message of the filter has.

        With ack policy ``all`` the floor waits for the position, so it cannot tell.
        """
        filters = self._config.filters if self._config is not None else []
        for _ in range(_LOOKUPS):
            gap = self.tracker.gap
            if gap is None:
                return
            found = await self._api.next_message(gap[0], filters)
            if found is not None and found.seq <= gap[1]:
                return
            self.tracker.settle(gap[1])

    async def aclose(self) -> None:
        unread = await self._pull.aclose()
        await self._acks.aclose()
        replies = [reply for batch in self._in_hand for _, reply in batch.deliveries]
        replies += [raw.reply for raw, *_ in self._held] + unread
        if self._api.is_connected:
            await self._acks.give_back(replies)


def renewed(config: ConsumerConfig, begins: dict[str, Any], start: int) -> ConsumerConfig:
    """The settings of a consumer that is made again.

    Args:
        config: those that it had.
        begins: where it begins; see ``start_of``.
        start: the number of the partition's start, to be noted in them.
    """
    own = {k: v for k, v in (config.metadata or {}).items() if not k.startswith("_nats.")}
    if start:
        own[START_NOTED] = str(start)
    where = {"opt_start_seq": None, "opt_start_time": None, **begins}
    return structs.replace(config, metadata=own or None, **where)


def start_noted(config: ConsumerConfig) -> int:
    """The number of the partition's start that a consumer was made for."""
    noted = (config.metadata or {}).get(START_NOTED, "0")
    return int(noted) if noted.isascii() and noted.isdigit() else 0


def _settled(info: ConsumerInfo, last_seq: int | None = None) -> int:
    """The stream sequence up to which the consumer will deliver nothing again."""
    through = info.ack_floor.stream_seq
    if info.num_ack_pending == 0:
        through = max(through, info.delivered.stream_seq)
    return through if last_seq is None else min(through, last_seq)


def _leaves_out(info: ConsumerInfo) -> bool:
    """See ``_LEAVE_OUT``."""
    return info.config.deliver_policy in _LEAVE_OUT
