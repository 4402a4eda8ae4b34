"""The end of a partition whose task is gone: its windows are drained, then it is forgotten."""

from __future__ import annotations

import asyncio
import logging
import time

from sinfer.aio.wait import wait_for_event
from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.ingest.closing import close_all, planner_of
from sinfer.ingest.handover import stored_spec
from sinfer.ingest.ingestor import Ingestor
from sinfer.ingest.leases import LEASE_MS
from sinfer.ingest.predecessors import joined
from sinfer.products.revisions import Revision
from sinfer.store.boards.consumers import ConsumerBoard
from sinfer.store.boards.read_marks import ReadMarks
from sinfer.store.history.dead_letter_store import DeadLetterStore
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_POLL_S, _LONGEST_POLL_S = 1.0, 10.0
"""How often the end of the windows is asked for."""


class Retirement:
    """Closes the open windows of a partition, waits until the workers are done, and forgets it.

    The task may come back meanwhile: told to stop, this gives the partition back as it is then.

    Args:
        ingestor: what it shares with the partitions of the ingestor.
        scope: the partition.
        grace_s: nothing is forgotten earlier than so long after the start, in case the task is back
            at once, as after a list that was read half written.
        has_task: whether the task is there, and reads other partitions now, which begin where this
            one ends.

    Attributes:
        writer: writes the partition.
        renewed_s: when its lease was last renewed, by the monotonic clock.
    """

    def __init__(
        self, ingestor: Ingestor, scope: Scope, *, grace_s: float, has_task: bool = False
    ) -> None:
        self.scope = scope
        self._marks = ReadMarks(ingestor.store, scope.product, scope.task)
        self._has_task = has_task
        self._grace_s = grace_s
        self._ingestor = ingestor
        self._schedule = Schedule(ingestor.store)
        self.writer = PartitionWriter(
            ingestor.store, scope, owner=ingestor.owner, lease_ms=LEASE_MS
        )
        self.renewed_s = 0.0
        self._stopping = asyncio.Event()
        self._lost: StaleTokenError | None = None

    @property
    def _why(self) -> str:
        return "its task reads other partitions now" if self._has_task else "its task is gone"

    def stop(self) -> None:
        """Give the partition back and return from ``run``."""
        self._stopping.set()

    def wake(self) -> None:
        """Nothing to look at: the end of windows is asked for in short intervals anyway."""

    def lease_lost(self, error: StaleTokenError) -> None:
        """Somebody else writes the partition."""
        self._lost = error
        self._stopping.set()

    async def run(self) -> None:
        """Drain and forget the partition, or stop before.

        Raises:
            StaleTokenError: another ingestor took over.
            UnavailableError: Redis is unavailable; the caller tries again later.
            ConfigError: what is stored of the task is not valid.
        """
        while remaining_ms := await self.writer.acquire():
            if await self._stopped(min(_POLL_S, remaining_ms / 1000)):
                return
        self.renewed_s = time.monotonic()
        leases = self._ingestor.leases
        leases.add(self)
        board = ConsumerBoard(self._ingestor.store)
        try:
            consumer = await board.of(self.scope)
            async with self._ingestor.opening:
                await self._close()
            if await self._stopped(self._grace_s):
                return
            poll_s = _POLL_S
            while left := await self.writer.forget():
                if poll_s == _POLL_S:
                    text = f"{self._why}; {left} windows are to be processed yet"
                    self._ingestor.announcements.say(self.scope, text)
                if await self._stopped(poll_s):
                    break
                poll_s = min(2 * poll_s, _LONGEST_POLL_S)
        finally:
            leases.remove(self)
            await self._give_back()
        if self._lost is not None:
            raise self._lost
        if not left:
            await board.give_up(self.scope, consumer)
            await self._leave()

    async def _stopped(self, seconds: float) -> bool:
        return await wait_for_event(self._stopping, seconds)

    async def _close(self) -> None:
        """Close what is open; none of the partition's windows waits for others any more."""
        state = await self.writer.load()
        if self._has_task:
            subject, mark = self.scope.partition, state.source
            if mark:
                mark = joined((await self._marks.see()).read.get(subject), mark)
            await self._marks.give_up(subject, mark)
        else:
            await self._marks.forget()
        if not state.config:
            if state.windows:
                text = (
                    f"{self._why}, and gone is how its {len(state.windows)} open windows are"
                    " cut; they stay"
                )
                troubles = self._ingestor.troubles
                troubles.tell(str(self.scope), "windows", text, level=logging.ERROR, fades=True)
            return
        revision = Revision.unpack(state.config)
        planner = planner_of(self.scope, state, stored_spec(revision))
        source, alone = state.source or b"", PartitionSettings(alone=self.scope)
        _, committed = await close_all(
            planner,
            revision.meaning,
            lambda plan: self.writer.commit(Commit(plan, source), settings=alone),
        )
        self._ingestor.hints.send(self.scope, committed.hint)
        if committed.next_due_ms:
            wait_ms = committed.next_due_ms - committed.now_ms
            await self._schedule.announce(self.scope, wait_ms)

    async def _give_back(self) -> None:
        try:
            await self.writer.release()
        except UnavailableError as error:
            _log.warning("%s: lease not given back, it will run out: %s", self.scope, error)

    async def _leave(self) -> None:
        dead = await DeadLetterStore(self._ingestor.store).count(self.scope)
        text = f"{self._why} and it is forgotten"
        if dead:
            text += f", but for {dead} dead letters"
        else:
            await self._schedule.unregister(self.scope)
        self._ingestor.announcements.say(self.scope, text)
