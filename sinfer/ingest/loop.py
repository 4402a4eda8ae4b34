"""The loop of a partition: read a batch, put it into windows, acknowledge it, look around."""

from __future__ import annotations

import asyncio
import logging
import time

from sinfer.aio.wait import wait_for_event
from sinfer.clock import Clock
from sinfer.errors import StoreFullError, UnavailableError
from sinfer.ingest.backpressure import Hold, Holds
from sinfer.ingest.caution import Caution
from sinfer.ingest.commit import Storing
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.ingest.entries import Prepared
from sinfer.ingest.idleness import Idleness
from sinfer.ingest.ingestor import Ingestor
from sinfer.ingest.isolation import CarefulError
from sinfer.ingest.predecessors import Predecessors
from sinfer.ingest.result_deadlines import ResultDeadlines
from sinfer.ingest.stall import StallNotice
from sinfer.ingest.waiting_windows import WaitingWindows
from sinfer.ingest.windower import Windower
from sinfer.products.task import InferTaskConfig
from sinfer.source.attachment import Attachment
from sinfer.source.batch import Batch
from sinfer.source.source import Lost, Source
from sinfer.store.durability import DurabilityBarrier
from sinfer.store.partition.gone_messages import GoneMessages
from sinfer.store.partition.writer import PartitionWriter
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often a partition looks at what its unfinished windows hold, while that matters."""

_LONGEST_WAIT_S = 60.0
"""A quiet partition, which has nothing to do by the clock, sleeps for so long or until woken."""

_FIRST_RELIEF_S, _LONGEST_RELIEF_S = 0.2, 2.0
"""How often a partition under pressure looks whether it is over."""


class IngestLoop:
    """Moves the messages of one partition into its windows.

    A partition with nothing to do costs nothing: it sleeps until a message comes, until the clock
    has something for it, or until it is woken.

    Args:
        ingestor: what the partition shares with others.
        task: the task.
        writer: writes the partition.
        storing: stores what is committed; the loop ends when it is told to stop.
        clock: the store's clock.
        care: whether acknowledgements wait for copies of dead letters.

    Attributes:
        has_stored: whether a batch was stored.
        in_hand: messages that were read and are not stored yet.
        predecessors: what partitions that the task had before have read; None where that is
            nothing.
    """

    def __init__(
        self,
        ingestor: Ingestor,
        task: InferTaskConfig,
        writer: PartitionWriter,
        storing: Storing,
        clock: Clock,
        care: DeadLetterCare,
    ) -> None:
        self.has_stored = False
        self.in_hand: list[Message] = []
        self.predecessors: Predecessors | None = None
        self._ingestor = ingestor
        self._task = task
        self._writer = writer
        self._scope = scope = writer.scope
        self._storing = storing
        self._stopping = storing.stopping
        self._acks_when_done = task.source.ack == "done"
        self._troubles = troubles = ingestor.troubles.of(str(scope))
        self._barrier = DurabilityBarrier(ingestor.durability, writer, self.fail)
        self._stall = StallNotice(writer, troubles)
        self._waiting = WaitingWindows(
            writer, storing, self._barrier, troubles,
            acks_when_done=self._acks_when_done, care=care,
        )  # fmt: skip
        self._idleness = Idleness(task.window, clock, waited_for=bool(writer.partitions))
        self._deadlines = ResultDeadlines(task.window, scope, ingestor.store, clock)
        self._holds = Holds(ingestor.pauses, ingestor.memory, ingestor.budgets, scope, task.limits)
        self._attachment: Attachment | None = None
        self._caution: Caution
        self._rest: Batch | None = None
        self._woken = asyncio.Event()
        self._lost: BaseException | None = None
        self._drained_ms = 0

    def wake(self) -> None:
        """Have a look around: something changed that is no message."""
        self._woken.set()
        if self._attachment is not None:
            self._attachment.wake()

    def fail(self, error: BaseException | None) -> None:
        """The partition cannot go on: ``run`` raises this, or what it was told before."""
        self._lost = self._lost or error
        self.wake()

    async def aclose(self) -> None:
        """Wait a moment for acknowledgements that are on their way, and close the source."""
        attachment, self._attachment = self._attachment, None
        await self._barrier.aclose()
        if attachment is not None:
            await attachment.aclose()

    async def run(self, windower: Windower, attachment: Attachment, caution: Caution) -> None:
        """Move what the source gives into windows until told to stop.

        Args:
            windower: puts batches into windows.
            attachment: holds the source.
            caution: decides how each part of a batch is prepared.

        Raises:
            SinferError: the partition cannot go on.
        """
        source, size = attachment.source, self._task.source.batch
        self._attachment, self._caution = attachment, caution
        self._waiting.begin(source.state)
        self._idleness.interrupt()
        while not self._stopping.is_set():
            if self._lost is not None:
                raise self._lost
            await self._hold_back(windower, source)
            batch = self._rest or await source.next(size, self._wait_s(windower))
            came = isinstance(batch, Batch)
            if isinstance(batch, Batch):
                if self.predecessors is not None:
                    batch = self.predecessors.without_taken(batch)
                await self._take(windower, source, batch)
            else:
                if isinstance(batch, Lost):
                    await attachment.restore(batch, self._wait_s(windower))
                await self._quiet(windower, source)
            looks = self._acks_when_done or (came and self._storing.pending)
            if looks and time.monotonic() - self._waiting.looked_s >= _LOOK_S:
                await self._waiting.look(source, self.in_hand)
            if self._acks_when_done:
                await self._stall.look(source, came=came, pending=self._storing.pending)

    async def _take(self, windower: Windower, source: Source, batch: Batch) -> None:
        """Store a batch, or as much of it as is prepared in a moment, and acknowledge it."""
        self._rest, self.in_hand = batch, batch.messages
        try:
            prepared = await self._prepare(windower, batch.messages)
        except CarefulError:
            if self._stopping.is_set():
                return
            raise
        rest: Batch | None = None
        if prepared.count < len(batch.messages):
            batch, rest = batch.split(prepared.count)
        if batch.gone:
            await GoneMessages(self._ingestor.store, self._scope).note(batch.gone)
        await windower.store(batch, prepared)
        self._rest, self.in_hand = rest, [] if rest is None else rest.messages
        if batch.ack is not None:
            await self._barrier.pass_on(batch.ack)
        if batch.is_start:
            await self._wait_until_kept()
        await self._stored(windower, source, batch)

    async def _wait_until_kept(self) -> None:
        """Go on when what was stored is kept."""
        kept = asyncio.Event()

        async def note() -> None:
            kept.set()

        await self._barrier.pass_on(note)
        while not (kept.is_set() or self._stopping.is_set() or self._lost is not None):
            await wait_for_event(kept, _FIRST_RELIEF_S)

    async def _prepare(self, windower: Windower, messages: list[Message]) -> Prepared:
        """Have the product look at the first messages, with care where writers have died."""
        if not self._caution.is_needed:
            return await windower.prepare(messages)
        chosen, prepare = await self._caution.choose(messages)
        return await windower.prepare(chosen, prepare)

    async def _stored(self, windower: Windower, source: Source, batch: Batch) -> None:
        """A batch, or a part of one, is stored: see what follows from that."""
        messages = batch.messages
        self.has_stored = True
        if self._idleness.is_possible:
            self._idleness.interrupt()
        if self._deadlines.is_possible:
            await self._deadlines.look(windower)
        if self._caution.is_needed:
            await self._caution.stored(messages, batch.state.position)
        if self._acks_when_done and messages:
            self._waiting.stored(messages)
        payload = sum([len(message.data) for message in messages])
        memory = self._ingestor.memory
        if await memory.stored(len(messages), payload):
            await self._look_at_budgets()
        waiting = self._waiting
        waiting.unseen_bytes += payload
        most = waiting.bytes + waiting.unseen_bytes
        if self._storing.pending and most > self._task.limits.max_pending_bytes:
            await waiting.look(source, self.in_hand)  # sooner than usual

    async def _look_at_budgets(self) -> None:
        memory, budgets = self._ingestor.memory, self._ingestor.budgets
        try:
            await budgets.refresh({self._scope: self._task}, memory.used, memory.limit)
        except (UnavailableError, StoreFullError) as error:
            _log.debug("%s: what it takes of Redis is not known: %s", self._scope, error)

    def _wait_s(self, windower: Windower) -> float:
        """Until when there is nothing to do if nothing comes, in seconds."""
        wait_s = _LONGEST_WAIT_S
        if self._acks_when_done and not self._waiting.is_acknowledged:
            wait_s = _LOOK_S
        if self._idleness.is_possible:
            wait_s = min(wait_s, self._idleness.wait_s(windower))
        if self._deadlines.is_possible:
            wait_s = min(wait_s, self._deadlines.wait_s(windower))
        return max(0.0, wait_s)

    # --- between batches ---

    async def _quiet(self, windower: Windower, source: Source) -> None:
        """Nothing came."""
        if self._caution.is_needed:
            await self._caution.quiet()
        if self._idleness.is_possible:
            await self._idleness.look(windower, source)
        if self._deadlines.is_possible:
            await self._deadlines.look(windower)

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
                self._ingestor.announcements.say(self._scope, f"pulling stops: {hold.reason}")
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
                await self._waiting.look(source, self.in_hand)
            self._woken.clear()
            hold = self._holds.first(self._storing.pending, self._waiting.bytes)
        self._troubles.over("pressure")
        if not self._stopping.is_set():
            self._ingestor.announcements.say(self._scope, "pulling goes on")

    async def _drain(self, windower: Windower, hold: Hold) -> bool:
        """Close what is open where that is asked for, and say that it was done.

        Returns:
            Whether there is nothing left to be done for it.
        """
        if not hold.drain or hold.drain == self._drained_ms:
            return True
        await windower.close_all("drain", idle=bool(self._writer.partitions))
        try:
            await self._writer.note_drained(hold.drain)
        except (UnavailableError, StoreFullError) as error:
            self._troubles.tell("draining", f"is drained, which cannot be noted: {error}")
            return False
        self._troubles.over("draining")
        self._drained_ms = hold.drain
        return True
