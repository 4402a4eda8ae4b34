"""Ingesting one partition: read a batch, plan it, commit it, acknowledge it, say what is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from nats.aio.client import Client

from sinfer.clock import SystemClock
from sinfer.errors import (
    ConfigError,
    StaleTokenError,
    StoreFullError,
    UnavailableError,
    WindowConflictError,
)
from sinfer.hints import HintSender
from sinfer.ingest.batch import Batch
from sinfer.ingest.dead_letter_care import DeadLetterCare
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.ingest.pressure import MemoryPressure, PartitionPressure
from sinfer.ingest.reader import PartitionReader
from sinfer.ingest.state import SourceState
from sinfer.products.pipeline import InferPipeline
from sinfer.units import to_ms
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.pauses import PauseBoard
from sinfer.windows.plan import Plan
from sinfer.windows.planners import make_planner
from sinfer.windows.schedule import Schedule
from sinfer.windows.store import Store
from sinfer.windows.window import CloseReason
from sinfer.windows.writer import Commit, Committed, PartitionWriter, Unfinished

_log = logging.getLogger(__name__)

LEASE_MS = 7_000
"""How long a silent ingestor keeps a partition; with the polling below, take-over is under 10 s."""

_POLL_S = 1.0
"""How often the lease of another ingestor is asked for."""

_QUIET_S = 0.5
"""How long to wait for messages before looking at the clock, the lease and the stop sign."""

_WAIT_S = 0.2
"""How often a partition under pressure looks whether it is over."""

_LOOK_S = 1.0
"""How often a partition that pulls looks at what its unfinished windows hold."""

_RETRY_S = 0.5
"""Pause before a commit is repeated that Redis did not answer."""


class PartitionIngest:
    """Moves the messages of one partition into its windows, as the partition's only writer.

    Args:
        store: the window store.
        connection: NATS.
        scope: the partition; its third part is the subject filter.
        pipeline: the product's code, made for the task.
        hints: who tells the workers.
        pauses: what is paused, kept fresh by the caller.
        memory: whether Redis is nearly full, kept fresh by the caller.
        owner: name of this ingestor, unique among all.
    """

    def __init__(
        self,
        store: Store,
        connection: Client,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
        hints: HintSender,
        pauses: PauseBoard,
        memory: MemoryPressure,
        owner: str,
    ) -> None:
        self.scope = scope
        self._store = store
        self._connection = connection
        self._task = pipeline.task
        self._acks_when_done = self._task.source.ack == "done"
        self._pipeline = pipeline
        self._preparer = Preparer(pipeline)
        self._care = DeadLetterCare(store, connection, scope, self._task)
        self._hints = hints
        self._schedule = Schedule(store)
        self._writer = PartitionWriter(store, scope, owner=owner, lease_ms=LEASE_MS)
        self._clock = SystemClock()
        self._stopping = asyncio.Event()
        self._renewed = 0.0
        self._announced_ms = 0
        self._pauses = pauses
        self._memory = memory
        self._pressure = PartitionPressure(self._task.limits)
        self._pending = 0
        self._unfinished = Unfinished(0, None)
        self._looked = 0.0
        self._stored_seq = 0
        self._quiet_since: float | None = None

    def stop(self) -> None:
        """Store what is in hand, give the partition back and return from ``run``."""
        self._stopping.set()

    async def run(self) -> None:
        """Wait for the partition's lease, then ingest until told to stop.

        Raises:
            StaleTokenError: another ingestor took over.
            SinferError: the partition cannot be ingested; the caller tries again later.
        """
        if not await self._acquired():
            return
        try:
            await self._ingest()
        finally:
            await self._give_back()

    async def _acquired(self) -> bool:
        while not self._stopping.is_set():
            remaining_ms = await self._writer.acquire()
            if remaining_ms == 0:
                self._renewed = time.monotonic()
                return True
            await self._pause(min(_POLL_S, remaining_ms / 1000))
        return False

    async def _give_back(self) -> None:
        try:
            await self._writer.release()
        except UnavailableError as error:
            _log.warning("%s: lease not given back, it will run out: %s", self.scope, error)

    async def _ingest(self) -> None:
        self._clock.follow(await self._store.now_ms())
        state = await self._writer.load()
        pipeline = self._pipeline
        self._planner = make_planner(
            self._task.window,
            self.scope.window_prefix,
            windows=state.windows,
            watermark_ms=state.watermark_ms,
            close_when=pipeline.close_when if pipeline.overrides("close_when") else None,
        )
        await self._schedule.register(self.scope)
        reader = await PartitionReader.open(
            self._connection,
            self._task.source,
            self.scope.partition,
            name=str(self.scope),
            state=None if state.source is None else SourceState.decode(state.source),
        )
        self._reader = reader
        _log.info("%s: ingesting; %s", self.scope, reader.mode)
        self._stored_seq = max([reader.state.position, *(last for _, last in reader.state.ahead)])
        self._check_budget(reader.max_ack_pending)
        self._source = state.source or b""
        reason = "gap" if self._task.window.type == "session" else "time"
        await self._commit(Plan(watermark_ms=state.watermark_ms), settings={"due_reason": reason})
        care = asyncio.create_task(self._care.run())
        try:
            while not self._stopping.is_set():
                await self._relieve()
                batch = await reader.next_batch(self._task.source.batch, _QUIET_S)
                if batch is not None:
                    await self._take(batch)
                    await reader.committed(batch)
                else:
                    await self._quiet(reader)
                await self._renew()
                if self._pending or self._acks_when_done:
                    await self._look(at_least_every_s=_LOOK_S)
        finally:
            care.cancel()
            await asyncio.gather(care, return_exceptions=True)
            await reader.aclose()

    def _check_budget(self, max_ack_pending: int | None) -> None:
        """With ``ack: done`` the server delivers no more than so many unfinished messages.

        Raises:
            ConfigError: not even one window could become full.
        """
        spec = self._task.window
        largest = spec.count if spec.type == "count" else spec.max_count
        if not self._acks_when_done or max_ack_pending is None or max_ack_pending < 0:
            return
        if largest is not None and largest > max_ack_pending:
            raise ConfigError(
                f"{self.scope}: windows of {largest} messages never become full, since the consumer"
                f" allows {max_ack_pending} unacknowledged messages; raise its max_ack_pending,"
                " or make the windows smaller, or use ack: stored"
            )
        _log.info(
            "%s: ack: done: all unfinished windows together hold at most %d messages"
            " (max_ack_pending)", self.scope, max_ack_pending,
        )  # fmt: skip

    # --- one batch ---

    async def _take(self, batch: Batch) -> None:
        """Put a batch into windows, planning again whenever beat closed one of them meanwhile."""
        self._quiet_since = None
        prepared = self._preparer.prepare(batch.messages, self._clock.now_ms())
        source = batch.state.encode()
        while True:
            plan = self._planner.plan(prepared.entries, self._clock.now_ms())
            dead, counts = self._account(batch, prepared, plan)
            try:
                await self._commit(plan, source=source, dead=dead, counts=counts)
                break
            except WindowConflictError as conflict:
                self._clock.follow(conflict.now_ms)
                self._planner.forget(conflict.window_ids)
        self._planner.apply(plan)
        if batch.messages:
            self._stored_seq = max(self._stored_seq, *(m.stream_seq for m in batch.messages))

    def _account(
        self, batch: Batch, prepared: Prepared, plan: Plan
    ) -> tuple[list[DeadLetter], dict[str, int]]:
        """What a batch adds to the account, and its dead letters."""
        dead = prepared.dead
        late = len(plan.late)
        if late and self._task.window.late == "dead_letter":
            now_ms = self._clock.now_ms()
            error = "late: its window had closed, and the watermark was past allowed_lateness"
            dead = dead + [DeadLetter(message, "window", error, now_ms) for message in plan.late]
            late = 0
        counts = {
            "fetched": len(batch.messages),
            "filtered": prepared.filtered,
            "dead": len(dead),
            "late": late,
        }
        return dead, counts

    async def _commit(
        self,
        plan: Plan,
        *,
        source: bytes | None = None,
        dead: list[DeadLetter] | None = None,
        counts: dict[str, int] | None = None,
        settings: dict[str, str] | None = None,
    ) -> Committed:
        """Commit until Redis has said yes or no, and pass on what it says is to do."""
        self._source = self._source if source is None else source
        commit = Commit(plan, self._source, dead or (), counts or {})
        complained = False
        while True:
            try:
                committed = await self._writer.commit(commit, settings=settings)
                break
            except (UnavailableError, StoreFullError) as error:
                if not complained:
                    _log.warning("%s: waiting to store a batch: %s", self.scope, error)
                complained = True
                if self._stopping.is_set():
                    raise
                await asyncio.sleep(_RETRY_S)
        if complained:
            _log.info("%s: storing again", self.scope)
        self._renewed = time.monotonic()
        self._clock.follow(committed.now_ms)
        self._pending = committed.pending
        self._hints.send(self.scope, committed.hint)
        await self._announce(committed)
        return committed

    async def _announce(self, committed: Committed) -> None:
        """Have beat look at the partition when something is due, unless it will anyway."""
        due_ms = committed.next_due_ms
        if due_ms and (due_ms < self._announced_ms or self._announced_ms <= committed.now_ms):
            try:
                await self._schedule.announce(self.scope, due_ms)
            except (UnavailableError, StoreFullError) as error:
                _log.warning("%s: beat will find out by itself: %s", self.scope, error)
            else:
                self._announced_ms = due_ms

    # --- between batches ---

    async def _quiet(self, reader: PartitionReader) -> None:
        """Nothing came: close what an idle source or the clock alone closes."""
        spec = self._task.window
        now = time.monotonic()
        if spec.type == "sliding" and spec.time == "processing":
            await self._take_plan(self._planner.plan((), self._clock.now_ms()))
        if spec.idle is None or not await reader.caught_up():
            self._quiet_since = None
            return
        self._quiet_since = now if self._quiet_since is None else self._quiet_since
        if (now - self._quiet_since) * 1000 >= to_ms(spec.idle):
            await self.close_all("idle")

    async def close_all(self, reason: CloseReason) -> None:
        """Close every open window of the partition."""
        await self._take_plan(self._planner.close_all(reason))

    async def _take_plan(self, plan: Plan) -> None:
        if plan.is_empty:
            return
        try:
            await self._commit(plan)
        except WindowConflictError as conflict:
            self._clock.follow(conflict.now_ms)
            self._planner.forget(conflict.window_ids)
        else:
            self._planner.apply(plan)

    async def _renew(self) -> None:
        if (time.monotonic() - self._renewed) * 1000 > LEASE_MS / 3:
            try:
                if await self._writer.acquire():
                    raise StaleTokenError(f"{self.scope} is written by another ingestor by now")
            except UnavailableError as error:
                _log.warning("%s: lease not renewed: %s", self.scope, error)
            else:
                self._renewed = time.monotonic()

    async def _relieve(self) -> None:
        """Pull nothing while there is pressure or a pause; JetStream keeps the backlog."""
        told = ""
        while not self._stopping.is_set() and (reason := self._reason_to_wait()):
            if reason != told:
                _log.warning("%s: pulling stops: %s", self.scope, reason)
            told = reason
            if self._is_draining():
                await self.close_all("drain")
            await self._pause(_WAIT_S)
            await self._renew()
            await self._look()
        if told and not self._stopping.is_set():
            _log.info("%s: pulling goes on", self.scope)

    def _reason_to_wait(self) -> str:
        pause = self._pauses.of(self.scope.product, self.scope.task)
        if pause is not None and pause.what != "processing":
            return f"{'draining' if pause.what == 'drain' else 'paused'}: {pause.reason}"
        if self._memory.is_high:
            return "Redis is nearly full"
        return self._pressure.reason(self._pending, self._unfinished.bytes)

    def _is_draining(self) -> bool:
        pause = self._pauses.of(self.scope.product, self.scope.task)
        return pause is not None and pause.what == "drain"

    async def _look(self, *, at_least_every_s: float = 0.0) -> None:
        """See what waits, and acknowledge what is done where that is how the task wants it."""
        now = time.monotonic()
        if now - self._looked < at_least_every_s:
            return
        self._looked = now
        try:
            self._pending = await self._writer.pending()
            self._unfinished = await self._writer.unfinished()
        except UnavailableError as error:
            _log.warning("%s: %s", self.scope, error)
            return
        if self._acks_when_done:
            await self._reader.finished([(1, self._finished_seq())])

    def _finished_seq(self) -> int:
        """Every message up to this one is done: none of them is in an open or closed window."""
        held = [record.first_seq for _, record in self._planner.open_windows()]
        if self._unfinished.first_seq is not None:
            held.append(self._unfinished.first_seq)
        return min(held, default=self._stored_seq + 1) - 1

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass
