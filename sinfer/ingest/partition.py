"""Ingesting one partition: read a batch, put it into windows, acknowledge it, say what is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from nats.aio.client import Client

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.clock import SystemClock
from sinfer.errors import (
    ConfigError,
    StaleTokenError,
    StoreFullError,
    StreamResetError,
    UnavailableError,
)
from sinfer.ingest.ack_budget import check_budget
from sinfer.ingest.backpressure import Hold, Holds
from sinfer.ingest.caution import Caution
from sinfer.ingest.commit import Storing
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.ingest.entries import Prepared
from sinfer.ingest.first_commit import begin
from sinfer.ingest.handover import change_over
from sinfer.ingest.idleness import Idleness
from sinfer.ingest.isolation import CarefulError, CarefulPreparer
from sinfer.ingest.leases import LEASE_MS
from sinfer.ingest.stall import StallNotice
from sinfer.ingest.surroundings import Surroundings
from sinfer.ingest.waiting_windows import WaitingWindows
from sinfer.ingest.windower import Beginning, Windower
from sinfer.ingest.work_in_hand import Hand
from sinfer.products.pipeline import InferPipeline
from sinfer.source.attachment import Attachment
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.source import Lost, Source
from sinfer.source.source_partition import SourcePartition
from sinfer.store.boards.consumers import ConsumerBoard
from sinfer.store.durability import DurabilityBarrier
from sinfer.store.partition.incarnation import Starts, incarnation_of, number_of_start
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.types.message import Message
from sinfer.windows.ids import Scope, reset_command

_log = logging.getLogger(__name__)

_POLL_S = 1.0
"""How often the lease of another ingestor is asked for."""

_LOOK_S = 1.0
"""How often a partition looks at what its unfinished windows hold, while that matters."""

_LONGEST_WAIT_S = 60.0
"""A quiet partition, which has nothing to do by the clock, sleeps for so long or until woken."""

_WELL_S = 5.0
"""A partition that was opened so long ago and has not failed since has nothing to complain of."""

_FIRST_RELIEF_S, _LONGEST_RELIEF_S = 0.2, 2.0
"""How often a partition under pressure looks whether it is over."""


class PartitionIngest:
    """Moves the messages of one partition into its windows, as the partition's only writer.

    A partition with nothing to do costs nothing: it sleeps until a message comes, until the clock
    has something for it, or until it is woken.

    Args:
        surroundings: what it shares with others.
        connection: NATS.
        scope: the partition; its third part is the subject filter.
        pipeline: the product's code, made for the task.

    Attributes:
        writer: writes the partition.
        hook_timeout_s: how long a hook may take for one message, seconds.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        connection: Client,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
    ) -> None:
        self.scope = scope
        self._surroundings = surroundings
        self._connection = connection
        self._task = pipeline.task
        self._acks_when_done = self._task.source.ack == "done"
        self._pipeline = pipeline
        self._troubles = troubles = surroundings.troubles.of(str(scope))
        self._care = DeadLetterCare(surroundings.store, connection, scope, self._task, troubles)
        self.writer = PartitionWriter(
            surroundings.store,
            scope,
            owner=surroundings.owner,
            lease_ms=LEASE_MS,
            partitions=self._aligned(),
        )
        self.hook_timeout_s = self._task.limits.hook_timeout.total_seconds()
        refusals = surroundings.refusals[scope]
        self._careful = CarefulPreparer(type(pipeline), self._task, str(scope), refusals)
        self._caution = Caution(self.writer, self._careful, PartitionState(None, None, {}), 1)
        self._windower: Windower | None = None
        self._nothing_in_hand = Hand()
        self._has_stored = False
        self._opened_s = 0.0
        self._barrier = DurabilityBarrier(surroundings.disk, self.writer, self.lease_lost)
        self._stall = StallNotice(self.writer, troubles)
        self._clock = SystemClock()
        self._attachment: Attachment | None = None
        self._rest: Batch | None = None
        self._in_hand: list[Message] = []
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._lost: BaseException | None = None
        self._storing = Storing(
            self.writer,
            self._clock,
            surroundings.hints,
            Schedule(surroundings.store),
            self._stopping,
            troubles,
        )
        self._waiting = WaitingWindows(
            self.writer,
            self._storing,
            self._barrier,
            troubles,
            acks_when_done=self._acks_when_done,
            care=self._care,
        )
        self._idleness = Idleness(self._task.window, self._clock, waited_for=bool(self._aligned()))
        self._holds = Holds(
            surroundings.pauses,
            surroundings.memory,
            surroundings.budgets,
            scope,
            self._task.limits,
        )
        self._drained_ms = 0

    @property
    def is_well(self) -> bool:
        """Whether it stores messages, or has found nothing wrong for a while."""
        return self._has_stored or (
            self._opened_s > 0 and time.monotonic() - self._opened_s > _WELL_S
        )

    @property
    def hand(self) -> Hand:
        """What the product's code works on at the moment."""
        return self._nothing_in_hand if self._windower is None else self._windower.hand

    @property
    def hand_seqs(self) -> tuple[int, int]:
        """Least and greatest stream sequence of what it may work on."""
        seqs = [message.stream_seq for message in self._in_hand]
        return min(seqs, default=0), max(seqs, default=0)

    @property
    def renewed_s(self) -> float:
        """When the writer's lease was last renewed, by the monotonic clock."""
        return self._storing.renewed_s

    @renewed_s.setter
    def renewed_s(self, at_s: float) -> None:
        self._storing.renewed_s = at_s

    def _aligned(self) -> list[Scope]:
        """The partitions that windows wait for: in event time, all of the task."""
        subjects = self._task.source.partition_subjects
        if self._task.window.time != "event" or len(subjects) == 1:
            return []
        return [Scope(self.scope.product, self.scope.task, subject) for subject in subjects]

    def stop(self) -> None:
        """Store what is in hand, give the partition back and return from ``run``."""
        self._stopping.set()
        self._careful.close()
        self.wake()

    def wake(self) -> None:
        """Have a look around: something changed that is no message."""
        self._woken.set()
        if self._attachment is not None:
            self._attachment.wake()

    def lease_lost(self, error: StaleTokenError) -> None:
        """Somebody else writes the partition."""
        self._lost = error
        self.wake()

    async def run(self) -> None:
        """Wait for the partition's lease, then ingest until told to stop.

        Raises:
            StaleTokenError: another ingestor took over.
            SinferError: the partition cannot be ingested; the caller tries again later.
        """
        if not await self._acquired():
            return
        try:
            await self._run()
        except StreamResetError as error:
            raise StreamResetError(
                f"{error}; to read it from where the task's source.deliver says, with results under"
                f" new names: {reset_command(self.scope)}"
            ) from error

    async def _run(self) -> None:
        leases = self._surroundings.leases
        leases.add(self)
        try:
            async with self._surroundings.opening:
                windower, attachment = await self._open()
            self._attachment, self._windower = attachment, windower
            self._opened_s = time.monotonic()
            care = asyncio.create_task(self._care.run()) if self._care.is_needed else None
            if care is not None:
                care.add_done_callback(self._care_ended)
            try:
                await self.ingest(windower, attachment)
            finally:
                if care is not None:
                    await end(care)
                self._attachment = None
                await self._barrier.aclose()
                await attachment.aclose()
        finally:
            self._careful.close()
            self._troubles.clear()
            leases.remove(self)
            await self._give_back()

    def _care_ended(self, care: asyncio.Task[None]) -> None:
        """Nobody copies dead letters any more: begin again, as acknowledgements may wait for it."""
        if not care.cancelled():
            self._lost = self._lost or care.exception()
            self.wake()

    async def _acquired(self) -> bool:
        while not self._stopping.is_set():
            remaining_ms = await self.writer.acquire()
            if remaining_ms == 0:
                self.renewed_s = time.monotonic()
                return True
            await wait_for_event(self._stopping, min(_POLL_S, remaining_ms / 1000))
        return False

    async def _give_back(self) -> None:
        try:
            await self.writer.release()
        except UnavailableError as error:
            _log.warning("%s: lease not given back, it will run out: %s", self.scope, error)

    # --- the beginning ---

    async def _open(self) -> tuple[Windower, Attachment]:
        self._clock.follow(await self.writer.now_ms())
        state = await self.writer.load()
        self._caution = Caution(self.writer, self._careful, state, self._task.source.batch)
        await Schedule(self._surroundings.store).register(self.scope)
        starts = Starts(self._surroundings.store)
        consumers = ConsumerBoard(self._surroundings.store)
        reading = SourcePartition(
            self._task.source,
            self.scope.partition,
            str(self.scope),
            Checkpoint.decode(state.source) if state.source else None,
            by_event_time=self._task.window.time == "event",
            start=await self._number_of_start(state, starts),
        )
        attachment = await Attachment.open(
            self._connection,
            reading,
            timing=self._surroundings.timing,
            troubles=self._troubles,
            take=lambda consumer: consumers.take(consumer, self.scope),
        )
        source, terms = attachment.source, attachment.source.terms
        try:
            layout = self._clock.now_ms() if terms.starts_over else None
            incarnation = state.incarnation if state.source else ""
            incarnation = incarnation or incarnation_of(
                self._task.source.stream, source.state.stream_created, terms.start
            )
            await starts.note(self.scope, number_of_start(incarnation))
            change = change_over(
                self.scope,
                state,
                self._pipeline,
                incarnation=incarnation,
                repeats_to=terms.repeats_to,
                layout=layout,
            )
            text = terms.text
            if budget := self._budget(terms.max_ack_pending):
                text += f"; {budget} (max_ack_pending)"
            if terms.acknowledges:
                await self._surroundings.disk.try_out()
                text += f"; {self._surroundings.disk.text}"
            self._waiting.begin(source.state)
            stored = state.source or b""
            await begin(
                change,
                stored,
                storing=self._storing,
                writer=self.writer,
                pauses=self._surroundings.pauses,
            )
        except BaseException:
            await attachment.aclose()
            raise
        self._surroundings.announcements.say(self.scope, f"ingesting; {text}")
        windower = Windower(
            self._pipeline,
            change.planner,
            self._clock,
            self._storing.store,
            begins=Beginning(str(self.scope), change.config, stored, incarnation),
            refusals=self._surroundings.refusals[self.scope],
        )
        return windower, attachment

    async def _number_of_start(self, state: PartitionState, starts: Starts) -> int:
        """That of the start which the partition goes on under, or else of the next."""
        if state.incarnation or state.source:
            return number_of_start(state.incarnation)
        return await starts.next(self.scope)

    def _budget(self, max_ack_pending: int | None) -> str:
        try:
            return check_budget(self._task, max_ack_pending)
        except ConfigError as error:
            raise ConfigError(
                f"{self.scope}: {error}, or make the windows smaller, or use ack: stored"
            ) from None

    # --- one batch after the other ---

    async def ingest(self, windower: Windower, attachment: Attachment) -> None:
        """Move what the source gives into windows until told to stop.

        Args:
            windower: puts batches into windows.
            attachment: holds the source.

        Raises:
            SinferError: the partition cannot go on; see ``run``.
        """
        source, size = attachment.source, self._task.source.batch
        self._idleness.interrupt()
        while not self._stopping.is_set():
            if self._lost is not None:
                raise self._lost
            await self._hold_back(windower, source)
            batch = self._rest or await source.next(size, self._wait_s(windower))
            came = isinstance(batch, Batch)
            if isinstance(batch, Batch):
                await self._take(windower, source, batch)
            else:
                if isinstance(batch, Lost):
                    await attachment.restore(batch, self._wait_s(windower))
                await self._quiet(windower, source)
            looks = self._acks_when_done or (came and self._storing.pending)
            if looks and time.monotonic() - self._waiting.looked_s >= _LOOK_S:
                await self._waiting.look(source, self._in_hand)
            if self._acks_when_done:
                await self._stall.look(source, came=came, pending=self._storing.pending)

    async def _take(self, windower: Windower, source: Source, batch: Batch) -> None:
        """Store a batch, or as much of it as is prepared in a moment, and acknowledge it."""
        self._rest, self._in_hand = batch, batch.messages
        try:
            prepared = await self._prepare(windower, batch.messages)
        except CarefulError:
            if self._stopping.is_set():
                return
            raise
        rest: Batch | None = None
        if prepared.count < len(batch.messages):
            batch, rest = batch.split(prepared.count)
        await windower.store(batch, prepared)
        self._rest, self._in_hand = rest, [] if rest is None else rest.messages
        if batch.ack is not None:
            await self._barrier.pass_on(batch.ack)
        await self._stored(source, batch)

    async def _prepare(self, windower: Windower, messages: list[Message]) -> Prepared:
        """Have the product look at the first messages, with care where writers have died."""
        if not self._caution.is_needed:
            return await windower.prepare(messages)
        chosen, prepare = await self._caution.choose(messages)
        return await windower.prepare(chosen, prepare)

    async def _stored(self, source: Source, batch: Batch) -> None:
        """A batch, or a part of one, is stored: see what follows from that."""
        messages = batch.messages
        self._has_stored = True
        if self._idleness.is_possible:
            self._idleness.interrupt()
        if self._caution.is_needed:
            await self._caution.stored(messages, batch.state.position)
        if self._acks_when_done and messages:
            self._waiting.stored(messages)
        payload = sum([len(message.data) for message in messages])
        memory = self._surroundings.memory
        if await memory.stored(len(messages), payload):
            await self._look_at_budgets()
        waiting = self._waiting
        waiting.unseen_bytes += payload
        most = waiting.bytes + waiting.unseen_bytes
        if self._storing.pending and most > self._task.limits.max_pending_bytes:
            await waiting.look(source, self._in_hand)  # sooner than usual

    async def _look_at_budgets(self) -> None:
        memory, budgets = self._surroundings.memory, self._surroundings.budgets
        try:
            await budgets.refresh({self.scope: self._task}, memory.used, memory.limit)
        except (UnavailableError, StoreFullError) as error:
            _log.debug("%s: what it takes of Redis is not known: %s", self.scope, error)

    def _wait_s(self, windower: Windower) -> float:
        """Until when there is nothing to do if nothing comes, in seconds."""
        wait_s = _LONGEST_WAIT_S
        if self._acks_when_done and not self._waiting.is_acknowledged:
            wait_s = _LOOK_S
        if self._idleness.is_possible:
            wait_s = min(wait_s, self._idleness.wait_s(windower))
        return max(0.0, wait_s)

    # --- between batches ---

    async def _quiet(self, windower: Windower, source: Source) -> None:
        """Nothing came."""
        if self._caution.is_needed:
            await self._caution.quiet()
        if self._idleness.is_possible:
            await self._idleness.look(windower, source)

    async def _hold_back(self, windower: Windower, source: Source) -> None:
        """Pull nothing while there is pressure or a pause; JetStream keeps the backlog."""
        self._woken.clear()
        hold = self._holds.first(self._storing.pending, self._waiting.bytes)
        if hold is None:
            return
        told = ""
        wait_s = _FIRST_RELIEF_S
        while hold is not None and not self._stopping.is_set() and self._lost is None:
            if hold.reason != told:
                self._surroundings.announcements.say(self.scope, f"pulling stops: {hold.reason}")
            told = hold.reason
            if not hold.is_told:  # the log has it
                text = f"pulling stops: {told}; are there workers, are model and sinks there?"
                self._troubles.tell("pressure", text, level=None)
            is_drained = await self._drain(windower, hold)
            looks = hold.passes_by_itself or self._acks_when_done
            longest_s = wait_s if looks or not is_drained else _LONGEST_WAIT_S
            if not await wait_for_event(self._woken, longest_s):
                wait_s = min(2 * wait_s, _LONGEST_RELIEF_S)
            if looks:
                await self._waiting.look(source, self._in_hand)
            self._woken.clear()
            hold = self._holds.first(self._storing.pending, self._waiting.bytes)
        self._troubles.over("pressure")
        if not self._stopping.is_set():
            self._surroundings.announcements.say(self.scope, "pulling goes on")

    async def _drain(self, windower: Windower, hold: Hold) -> bool:
        """Close what is open where that is asked for, and say that it was done.

        Returns:
            Whether there is nothing left to be done for it.
        """
        if not hold.drain or hold.drain == self._drained_ms:
            return True
        await windower.close_all("drain", idle=bool(self._aligned()))
        try:
            await self.writer.note_drained(hold.drain)
        except (UnavailableError, StoreFullError) as error:
            self._troubles.tell("draining", f"is drained, which cannot be noted: {error}")
            return False
        self._troubles.over("draining")
        self._drained_ms = hold.drain
        return True
