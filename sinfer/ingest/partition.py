"""A partition in the hands of an ingestor: its lease, how it begins, and how it is given back."""

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
    StreamResetError,
    UnavailableError,
)
from sinfer.ingest.ack_budget import check_budget
from sinfer.ingest.caution import Caution
from sinfer.ingest.commit import Storing
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.ingest.first_commit import begin
from sinfer.ingest.handover import change_over
from sinfer.ingest.ingestor import Ingestor
from sinfer.ingest.isolation import CarefulPreparer
from sinfer.ingest.leases import LEASE_MS
from sinfer.ingest.loop import IngestLoop
from sinfer.ingest.predecessors import Predecessors, wait_for_predecessors
from sinfer.ingest.windower import Beginning, Windower
from sinfer.ingest.work_in_hand import Hand
from sinfer.products.pipeline import InferPipeline
from sinfer.source.attachment import Attachment
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.source_partition import SourcePartition
from sinfer.store.boards.consumers import ConsumerBoard
from sinfer.store.partition.incarnation import Starts, incarnation_of, number_of_start
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope, reset_command

_log = logging.getLogger(__name__)

_POLL_S = 1.0
"""How often the lease of another ingestor is asked for."""

_WELL_S = 5.0
"""A partition that was opened so long ago and has not failed since has nothing to complain of."""


class PartitionIngest:
    """Moves the messages of one partition into its windows, as the partition's only writer.

    Args:
        ingestor: what it shares with others.
        connection: NATS.
        scope: the partition; its third part is the subject filter.
        pipeline: the product's code, made for the task.

    Attributes:
        writer: writes the partition.
        hook_timeout_s: how long a hook may take for one message, seconds.
    """

    def __init__(
        self,
        ingestor: Ingestor,
        connection: Client,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
    ) -> None:
        self.scope = scope
        self._ingestor = ingestor
        self._connection = connection
        self._task = pipeline.task
        self._pipeline = pipeline
        self._troubles = troubles = ingestor.troubles.of(str(scope))
        self._care = DeadLetterCare(ingestor.store, connection, scope, self._task, troubles)
        self.writer = PartitionWriter(
            ingestor.store,
            scope,
            owner=ingestor.owner,
            lease_ms=LEASE_MS,
            partitions=self._aligned(),
            tracks_first=self._task.source.ack == "done",
        )
        self.hook_timeout_s = self._task.limits.hook_timeout.total_seconds()
        refusals = ingestor.refusals[scope]
        self._careful = CarefulPreparer(type(pipeline), self._task, str(scope), refusals)
        self._caution = Caution(self.writer, self._careful, PartitionState(None, None, {}), 1)
        self._windower: Windower | None = None
        self._nothing_in_hand = Hand()
        self._opened_s = 0.0
        self._clock = SystemClock()
        self._stopping = asyncio.Event()
        self._storing = Storing(
            self.writer,
            self._clock,
            ingestor.hints,
            Schedule(ingestor.store),
            self._stopping,
            troubles,
        )
        self._loop = IngestLoop(
            ingestor, self._task, self.writer, self._storing, self._clock, self._care
        )

    @property
    def is_well(self) -> bool:
        """Whether it stores messages, or has found nothing wrong for a while."""
        return self._loop.has_stored or (
            self._opened_s > 0 and time.monotonic() - self._opened_s > _WELL_S
        )

    @property
    def hand(self) -> Hand:
        """What the product's code works on at the moment."""
        return self._nothing_in_hand if self._windower is None else self._windower.hand

    @property
    def hand_seqs(self) -> tuple[int, int]:
        """Least and greatest stream sequence of what it may work on."""
        seqs = [message.stream_seq for message in self._loop.in_hand]
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
        self._loop.wake()

    def lease_lost(self, error: StaleTokenError) -> None:
        """Somebody else writes the partition."""
        self._loop.fail(error)

    async def run(self) -> None:
        """Wait for the partition's lease, then ingest until told to stop.

        Raises:
            StaleTokenError: another ingestor took over.
            SinferError: the partition cannot be ingested; the caller tries again later.
        """
        await wait_for_predecessors(self._ingestor, self.scope, self._task.source, self._stopping)
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
        leases = self._ingestor.leases
        leases.add(self)
        try:
            async with self._ingestor.opening:
                windower, attachment = await self._open()
            self._windower = windower
            self._opened_s = time.monotonic()
            care = asyncio.create_task(self._care.run()) if self._care.is_needed else None
            if care is not None:
                care.add_done_callback(self._care_ended)
            try:
                await self._loop.run(windower, attachment, self._caution)
            finally:
                if care is not None:
                    await end(care)
                await self._loop.aclose()
        finally:
            self._careful.close()
            self._troubles.clear()
            leases.remove(self)
            await self._give_back()

    def _care_ended(self, care: asyncio.Task[None]) -> None:
        """Nobody copies dead letters any more: begin again, as acknowledgements may wait for it."""
        if not care.cancelled():
            self._loop.fail(care.exception())

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
        await Schedule(self._ingestor.store).register(self.scope)
        starts = Starts(self._ingestor.store)
        consumers = ConsumerBoard(self._ingestor.store)
        settings = self._task.source
        others = await Predecessors.of(self._ingestor, self._connection, self.scope, settings)
        self._loop.predecessors = others if others.marks else None
        reading = SourcePartition(
            settings,
            self.scope.partition,
            str(self.scope),
            Checkpoint.decode(state.source) if state.source else None,
            by_event_time=self._task.window.time == "event",
            start=await self._number_of_start(state, starts),
            begins_behind=others.begins_behind(settings),
        )
        attachment = await Attachment.open(
            self._connection,
            reading,
            timing=self._ingestor.timing,
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
            durability = self._ingestor.durability
            if terms.acknowledges or reading.state is None:
                await durability.try_out()
            if terms.acknowledges:
                text += f"; {durability.text}"
            stored = state.source or b""
            await begin(
                change,
                stored,
                storing=self._storing,
                writer=self.writer,
                pauses=self._ingestor.pauses,
            )
        except BaseException:
            await attachment.aclose()
            raise
        self._ingestor.announcements.say(self.scope, f"ingesting; {text}")
        windower = Windower(
            self._pipeline,
            change.planner,
            self._clock,
            self._storing.store,
            begins=Beginning(str(self.scope), change.config, stored, incarnation),
            refusals=self._ingestor.refusals[self.scope],
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
