"""Ingesting one partition: read a batch, put it into windows, acknowledge it, say what is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from nats.aio.client import Client

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.clock import SystemClock
from sinfer.config.units import to_ms
from sinfer.errors import (
    ConfigError,
    StaleTokenError,
    StoreFullError,
    StreamResetError,
    UnavailableError,
)
from sinfer.ingest.ack_budget import check_budget
from sinfer.ingest.ack_gate import AckGate
from sinfer.ingest.backpressure import PartitionPressure
from sinfer.ingest.caution import Caution
from sinfer.ingest.commit import Storing
from sinfer.ingest.dead_letter_gate import CopyGate
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.ingest.first_commit import begin
from sinfer.ingest.handover import change_over
from sinfer.ingest.isolation import CarefulError, CarefulPreparer
from sinfer.ingest.leases import LEASE_MS
from sinfer.ingest.stall import StallNotice
from sinfer.ingest.surroundings import Surroundings
from sinfer.ingest.windower import Beginning, Windower
from sinfer.ingest.work_in_hand import Hand
from sinfer.products.pipeline import InferPipeline
from sinfer.source.batch import BatchInHand
from sinfer.source.checkpoint import SourceState
from sinfer.source.reader import PartitionReader
from sinfer.source.source_partition import SourcePartition
from sinfer.store.boards.consumers import ConsumerBoard
from sinfer.store.partition.incarnation import Starts, number_of_start
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.unfinished import Unfinished
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

_NOT_IDLE_S = 0.5
"""How long after a source turned out not to be idle that is asked again."""

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
        self._gate = AckGate(surroundings.disk, self.writer, self.lease_lost)
        self._copies = CopyGate()
        self._stall = StallNotice(self.writer, troubles)
        self._clock = SystemClock()
        self._reader: PartitionReader | None = None
        self._in_hand: BatchInHand | None = None
        self._stopping = asyncio.Event()
        self._storing = Storing(
            self.writer,
            self._clock,
            surroundings.hints,
            Schedule(surroundings.store),
            self._stopping,
            troubles,
        )
        self._woken = asyncio.Event()
        self._lost: BaseException | None = None
        self._pressure = PartitionPressure(self._task.limits)
        self._unfinished = Unfinished(0, None)
        self._looked_s = 0.0
        self._stored_bytes = 0
        self._stored_seq = 0
        self._acked_seq = 0
        self._idle_at_s = 0.0
        self._is_idle = False
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
        rest = [] if self._in_hand is None else self._in_hand.rest
        seqs = [message.stream_seq for message in rest]
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
        if self._reader is not None:
            self._reader.wake()

    def lease_lost(self, error: StaleTokenError) -> None:
        """Somebody else writes the partition by now."""
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
                windower, reader = await self._open()
            self._reader, self._windower = reader, windower
            self._opened_s = time.monotonic()
            care = asyncio.create_task(self._care.run()) if self._care.is_needed else None
            if care is not None:
                care.add_done_callback(self._care_ended)
            try:
                await self._ingest(windower, reader)
            finally:
                if care is not None:
                    await end(care)
                self._reader = None
                await self._gate.aclose()
                await reader.aclose()
        finally:
            self._careful.close()
            self._troubles.clear()
            leases.remove(self)
            await self._give_back()

    def _care_ended(self, care: asyncio.Task[None]) -> None:
        """Nobody copies dead letters any more: begin anew, as acknowledgements may wait for it."""
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

    async def _open(self) -> tuple[Windower, PartitionReader]:
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
            SourceState.decode(state.source) if state.source else None,
            by_event_time=self._task.window.time == "event",
            start=await self._number_of_start(state, starts),
        )
        reader = await PartitionReader.open(
            self._connection,
            reading,
            timing=self._surroundings.timing,
            troubles=self._troubles,
            take=lambda consumer: consumers.take(consumer, self.scope),
        )
        try:
            layout = self._clock.now_ms() if reader.starts_over else None
            incarnation = state.incarnation if state.source else ""
            incarnation = incarnation or reader.incarnation
            await starts.note(self.scope, number_of_start(incarnation))
            change = change_over(
                self.scope,
                state,
                self._pipeline,
                incarnation=incarnation,
                repeats_to=reader.repeats_to,
                layout=layout,
            )
            mode = reader.mode
            if budget := self._budget(reader.max_ack_pending):
                mode += f"; {budget} (max_ack_pending)"
            if reader.acknowledges:
                await self._surroundings.disk.try_out()
                mode += f"; {self._surroundings.disk.text}"
            self._stored_seq = max(
                [reader.state.position, *(last for _, last in reader.state.ahead)]
            )
            source = state.source or b""
            await begin(
                change,
                source,
                storing=self._storing,
                writer=self.writer,
                pauses=self._surroundings.pauses,
            )
        except BaseException:
            await reader.aclose()
            raise
        self._surroundings.announcements.say(self.scope, f"ingesting; {mode}")
        windower = Windower(
            self._pipeline,
            change.planner,
            self._clock,
            self._storing.store,
            begins=Beginning(str(self.scope), change.config, source, incarnation),
            refusals=self._surroundings.refusals[self.scope],
        )
        return windower, reader

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

    async def _ingest(self, windower: Windower, reader: PartitionReader) -> None:
        size = self._task.source.batch
        self._not_idle()
        while not self._stopping.is_set():
            if self._lost is not None:
                raise self._lost
            await self._relieve(windower, reader)
            if self._in_hand is None:
                batch = await reader.next_batch(size, self._wait_s(windower))
                self._in_hand = None if batch is None else BatchInHand(batch)
            came = self._in_hand is not None
            if self._in_hand is not None:
                try:
                    await self._take(windower, reader, self._in_hand)
                except CarefulError:
                    if self._stopping.is_set():
                        return
                    raise
                self._not_idle()
            else:
                await self._quiet(windower, reader)
            if self._acks_when_done or (came and self._storing.pending):
                await self._look(reader, at_least_every_s=_LOOK_S)
            if self._acks_when_done:
                await self._stall.look(reader, came=came, pending=self._storing.pending)

    async def _take(
        self, windower: Windower, reader: PartitionReader, in_hand: BatchInHand
    ) -> None:
        """Store the next part of a batch; acknowledge the batch when all of it is stored."""
        rest: Sequence[Message] = in_hand.rest
        prepare = None
        if self._caution.is_needed:
            rest, prepare = await self._caution.choose(rest)
        count = await windower.take_some(rest, in_hand.source_after, prepare)
        messages = in_hand.stored(count)
        self._has_stored = True
        if self._caution.is_needed:
            await self._caution.stored(messages, self._stored_state(reader).position)
        if messages:
            seqs = [message.stream_seq for message in messages]
            self._stored_seq = max(self._stored_seq, *seqs)
            self._acked_seq = min(self._acked_seq, min(seqs) - 1)
        if in_hand.is_stored:
            self._in_hand = None
            if in_hand.batch.deliveries:
                await self._gate.pass_on(partial(reader.committed, in_hand.batch))
            else:
                await reader.committed(in_hand.batch)
        payload = sum([len(message.data) for message in messages])
        memory, budgets = self._surroundings.memory, self._surroundings.budgets
        if await memory.stored(len(messages), payload):
            try:
                await budgets.refresh({self.scope: self._task}, memory.used, memory.limit)
            except (UnavailableError, StoreFullError) as error:
                _log.debug("%s: what it takes of Redis is not known: %s", self.scope, error)
        await self._count(reader, payload)

    async def _count(self, reader: PartitionReader, payload: int) -> None:
        """Look at what waits, sooner than usual, when it may be too many bytes by now."""
        self._stored_bytes += payload
        most = self._unfinished.bytes + self._stored_bytes
        if self._storing.pending and most > self._task.limits.max_pending_bytes:
            await self._look(reader)

    def _wait_s(self, windower: Windower) -> float:
        """Until when there is nothing to do if nothing comes, in seconds."""
        wait_s = _LONGEST_WAIT_S
        if self._acks_when_done and self._acked_seq < self._stored_seq:
            wait_s = _LOOK_S
        spec = self._task.window
        if spec.type == "sliding" and spec.time == "processing":
            deadline_ms = windower.planner.next_deadline_ms
            if deadline_ms is not None:
                wait_s = min(wait_s, (deadline_ms - self._clock.now_ms()) / 1000)
        if spec.idle is not None and not self._is_idle:
            wait_s = min(wait_s, self._idle_at_s - time.monotonic())
        return max(0.0, wait_s)

    # --- between batches ---

    def _not_idle(self, again_s: float | None = None) -> None:
        """The source is not idle: ask again when nothing has come for long enough."""
        idle = self._task.window.idle
        if idle is not None:
            self._is_idle = False
            wait_s = idle.total_seconds() if again_s is None else again_s
            self._idle_at_s = time.monotonic() + wait_s

    async def _quiet(self, windower: Windower, reader: PartitionReader) -> None:
        """Nothing came: close what an idle source or the clock alone closes."""
        if self._caution.is_needed:
            await self._caution.quiet()
        spec = self._task.window
        if spec.type == "sliding" and spec.time == "processing":
            await windower.advance()
        if spec.idle is None or self._is_idle or time.monotonic() < self._idle_at_s:
            return
        if await reader.caught_up():
            await windower.close_all("idle", idle=bool(self._aligned()))
            self._is_idle = True
        else:
            self._not_idle(min(_NOT_IDLE_S, to_ms(spec.idle) / 1000))

    async def _relieve(self, windower: Windower, reader: PartitionReader) -> None:
        """Pull nothing while there is pressure or a pause; JetStream keeps the backlog."""
        told = ""
        wait_s = _FIRST_RELIEF_S
        while not self._stopping.is_set() and self._lost is None:
            self._woken.clear()
            reason, passes_by_itself = self._reason_to_wait()
            if not reason:
                break
            if reason != told:
                self._surroundings.announcements.say(self.scope, f"pulling stops: {reason}")
            told = reason
            self._tell_of_pressure(reason)
            await self._drain(windower)
            longest_s = wait_s if passes_by_itself else _LONGEST_WAIT_S
            if not await wait_for_event(self._woken, longest_s):
                wait_s = min(2 * wait_s, _LONGEST_RELIEF_S)
            if passes_by_itself or self._acks_when_done:
                await self._look(reader)
        self._troubles.over("pressure")
        if told and not self._stopping.is_set():
            self._surroundings.announcements.say(self.scope, "pulling goes on")

    def _tell_of_pressure(self, reason: str) -> None:
        """The log has it; pauses and budgets have boards of their own."""
        budgets, names = self._surroundings.budgets, (self.scope.product, self.scope.task)
        if self._surroundings.pauses.of(*names) is None and reason != budgets.reason(*names):
            text = f"pulling stops: {reason}; are there workers, are model and sinks there?"
            self._troubles.tell("pressure", text, level=None)

    def _reason_to_wait(self) -> tuple[str, bool]:
        """Why not to pull, and whether that passes without anybody waking the partition."""
        pause = self._surroundings.pauses.of(self.scope.product, self.scope.task)
        if pause is not None and pause.what != "processing":
            text = "draining" if pause.what == "drain" else "paused"
            undone = pause.what == "drain" and pause.since_ms != self._drained_ms
            return f"{text}: {pause.reason}", self._acks_when_done or undone
        budgets = self._surroundings.budgets
        if self._surroundings.memory.stops(others_are_stopped=budgets.has_stopped):
            return "Redis is nearly full", self._acks_when_done
        if reason := budgets.reason(self.scope.product, self.scope.task):
            return reason, self._acks_when_done
        return self._pressure.reason(self._storing.pending, self._unfinished.bytes), True

    async def _drain(self, windower: Windower) -> None:
        """Close what is open where that is asked for, and say that it was done."""
        pause = self._surroundings.pauses.of(self.scope.product, self.scope.task)
        if pause is None or pause.what != "drain" or pause.since_ms == self._drained_ms:
            return
        await windower.close_all("drain", idle=bool(self._aligned()))
        try:
            await self.writer.note_drained(pause.since_ms)
        except (UnavailableError, StoreFullError) as error:
            self._troubles.tell("draining", f"is drained, which cannot be noted: {error}")
        else:
            self._troubles.over("draining")
            self._drained_ms = pause.since_ms

    async def _look(self, reader: PartitionReader, *, at_least_every_s: float = 0.0) -> None:
        """See what waits, and acknowledge what is done where that is how the task wants it."""
        now_s = time.monotonic()
        if now_s - self._looked_s < at_least_every_s:
            return
        self._looked_s = now_s
        self._stored_bytes = 0
        try:
            self._storing.pending = await self.writer.pending()
            self._unfinished = await self.writer.unfinished(
                with_open=self._acks_when_done,
                with_dead=self._acks_when_done and self._care.sends_copies,
            )
        except UnavailableError as error:
            self._troubles.tell("looking", f"what waits cannot be looked at: {error}")
            return
        self._troubles.over("looking")
        if self._acks_when_done:
            finished_seq = self._finished_seq()
            done = self._stored_state(reader).read_through(finished_seq)
            done = self._copies.passing(finished_seq, done, self._unfinished)
            await self._gate.pass_on(partial(reader.finished, done))
            if not self._copies.holds:
                self._acked_seq = finished_seq

    def _stored_state(self, reader: PartitionReader) -> SourceState:
        """How far the partition was read, without what is in hand and not stored yet."""
        if self._in_hand is None:
            return reader.state
        return reader.state.without([message.stream_seq for message in self._in_hand.rest])

    def _finished_seq(self) -> int:
        """Every message read up to this one is done: none is in an open or closed window.

        Which windows are open is for the store to say. The plan knows of some for too long, as beat
        closes them, and of others too briefly, as it lets go of them before beat closes them.
        """
        held_seq = self._unfinished.first_seq
        return self._stored_seq if held_seq is None else held_seq - 1
