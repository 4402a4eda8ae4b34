"""From batches to commits: prepare, plan, commit, and plan again when a window closed meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from sinfer.clock import Clock
from sinfer.errors import CommitRefusedError, InvalidItemError, SinferError, WindowConflictError
from sinfer.hooks.call import describe
from sinfer.ingest.entries import SLICE_BYTES, SLICE_S, Prepared, Preparer, Preparing
from sinfer.ingest.work_in_hand import Hand
from sinfer.logging.masking import one_line
from sinfer.products.pipeline import InferPipeline
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import pack_checkpoint
from sinfer.store.partition.account import Count
from sinfer.store.partition.batch_commit import Commit
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, Stage
from sinfer.windows.plan import Plan
from sinfer.windows.planner import Planner
from sinfer.windows.window import CloseReason

_log = logging.getLogger(__name__)

_GATHER_S = 0.5
"""What was prepared in so long is stored together, before more is prepared."""

_PAUSE_S = 0.001
"""How long hooks are not called between two slices, so that others get on meanwhile."""

_FIRST_PART = 16
"""How many messages are planned at once where the product has a trigger that may be slow."""

_MOST_PLANNED, _UNLIMITED = 1 << 16, 1 << 30

_MOST_REFUSALS = 5
"""Messages in a row that the store refused and that were given up for it; then it is to blame."""

Store = Callable[[Commit], Awaitable[None]]
"""Stores a commit, all of it or nothing; raises ``WindowConflictError`` as the store does, and
``CommitRefusedError`` where the commit itself is the cause."""


@dataclass(slots=True)
class Refusals:
    """What was given up without any success between; outlives a failure of the partition.

    Attributes:
        in_a_row: messages that the store refused.
        killed_in_a_row: messages that ended a process of their own.
    """

    in_a_row: int = 0
    killed_in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a partition begins with.

    Attributes:
        name: of the partition, for the log.
        config: noted on windows as the configuration they were opened under.
        source: the reader's state as it is stored.
        incarnation: of the source, noted on dead letters.
    """

    name: str = ""
    config: str = ""
    source: bytes = b""
    incarnation: str = ""


class Windower:
    """Puts the messages of one partition into its windows.

    Args:
        pipeline: the product's code, made for the task.
        planner: holds the partition's open windows.
        clock: the store's clock; ``store`` keeps it right.
        store: stores what is decided.
        begins: what the partition begins with.
        refusals: of the partition.

    Attributes:
        hand: what the product's code works on at the moment.
    """

    def __init__(
        self,
        pipeline: InferPipeline[Any, Any],
        planner: Planner,
        clock: Clock,
        store: Store,
        *,
        begins: Beginning = Beginning(),
        refusals: Refusals | None = None,
    ) -> None:
        self._incarnation = begins.incarnation
        self.planner = planner
        self.hand = Hand()
        self._preparer = Preparer(pipeline, self.hand)
        self._most = _FIRST_PART if pipeline.overrides("close_when") else _UNLIMITED
        self._name = begins.name
        self._refusals = refusals or Refusals()
        self._dead_letters_late = pipeline.task.window.late == "dead_letter"
        self._clock = clock
        self._store = store
        self._config = begins.config
        self._source = begins.source

    async def take(self, batch: Batch) -> None:
        """Put a batch into windows, however long that takes; see ``prepare`` and ``store``."""
        while True:
            prepared = await self.prepare(batch.messages)
            if prepared.count == len(batch.messages):
                await self.store(batch, prepared)
                return
            first, batch = batch.split(prepared.count)
            await self.store(first, prepared)

    async def prepare(
        self, messages: Sequence[Message], prepare: Preparing | None = None
    ) -> Prepared:
        """Have the product look at the first of some messages: as many as it can in a moment.

        Args:
            messages: new ones only, in the order of the stream. May be empty.
            prepare: how to prepare them; in this process by default.
        """
        if len(messages) > self._most:
            messages = messages[: self._most]
        if prepare is not None:
            return await prepare(messages, self._clock.now_ms())
        prepared = self._preparer.prepare_some(messages, self._clock.now_ms())
        if prepared.count < len(messages):
            await self._prepare_more(messages, prepared)
        return prepared

    async def _prepare_more(self, messages: Sequence[Message], prepared: Prepared) -> None:
        """Prepare on in slices, between which the process does something else."""
        until_s = time.monotonic() + _GATHER_S
        size = sum(len(message.data) for message in messages[: prepared.count])
        while prepared.count < len(messages) and size < SLICE_BYTES:
            await asyncio.sleep(_PAUSE_S)
            if time.monotonic() >= until_s:
                break
            rest = messages[prepared.count :]
            more = self._preparer.prepare_some(rest, self._clock.now_ms())
            size += sum(len(message.data) for message in rest[: more.count])
            prepared.add(more)

    async def store(self, batch: Batch, prepared: Prepared) -> None:
        """Plan what a batch changes, and commit that; where it is refused, find the cause.

        Args:
            batch: its messages are those that were prepared.
            prepared: what the product made of them.

        Raises:
            CommitRefusedError: the store takes nothing at all, or refused several messages one
                after the other.
            StoreError, UnavailableError: what the store raises.
        """
        source = pack_checkpoint(batch.state)
        try:
            while True:
                plan, dead, counts = self._decide(batch.messages, prepared)
                counts[Count.DISCARDED] = batch.discarded
                try:
                    await self._commit(Commit(plan, source, dead, counts))
                    break
                except WindowConflictError as conflict:
                    self.planner.forget(conflict.window_ids)
        except CommitRefusedError as error:
            await self._store_in_parts(batch, prepared, error)
            return
        self._source = source
        self.planner.apply(plan)
        if batch.messages:
            self._refusals.in_a_row = 0

    async def _store_in_parts(
        self, batch: Batch, prepared: Prepared, refused: CommitRefusedError
    ) -> None:
        """Store what can be stored of a batch that was refused as a whole."""
        await self._check_store()
        messages = batch.messages
        if len(messages) == 1:
            await self._give_up(batch, prepared, refused)
            return
        for part in batch.split((len(messages) + 1) // 2):
            await self.store(part, prepared.part(part.messages))

    def _decide(
        self, messages: Sequence[Message], prepared: Prepared
    ) -> tuple[Plan, list[DeadLetter], dict[str, int]]:
        """The plan, and with it the dead letters and what the batch adds to the account.

        Raises:
            CommitRefusedError: there is no plan for these messages.
        """
        while True:
            try:
                plan = self._plan(prepared)
                return plan, *self._account(messages, prepared, plan)
            except InvalidItemError as error:
                _let_die(prepared, error, self._clock.now_ms())
            except SinferError:
                raise
            except Exception as error:
                text = f"it cannot be put into windows: {describe(error)}"
                raise CommitRefusedError(text, by_store=False) from error

    def _plan(self, prepared: Prepared) -> Plan:
        now_ms = self._clock.now_ms()
        if self._most == _UNLIMITED:  # no trigger of the product's own is called
            return self.planner.plan(prepared.entries, now_ms)
        self.hand.hook = "close_when"
        self.hand.since_s = began_s = time.monotonic()
        try:
            return self.planner.plan(prepared.entries, now_ms)
        finally:
            self.hand.since_s = 0.0
            is_slow = time.monotonic() - began_s > SLICE_S
            self._most = max(1, self._most // 2) if is_slow else min(2 * self._most, _MOST_PLANNED)

    async def _check_store(self) -> None:
        """Make sure that the store takes anything: then what was refused is to blame itself.

        Raises:
            CommitRefusedError: it does not.
        """
        await self._apply(self._nothing, always=True)

    async def _give_up(self, batch: Batch, prepared: Prepared, refused: CommitRefusedError) -> None:
        """The one message alone cannot be stored: make it a dead letter, in a form that can be."""
        [message], source = batch.messages, pack_checkpoint(batch.state)
        refusals = self._refusals
        if refused.by_store and refusals.in_a_row >= _MOST_REFUSALS:
            raise CommitRefusedError(
                f"the store refuses one message after the other, so no more of them are given up;"
                f" next is stream sequence {message.stream_seq}: {refused}",
                by_store=True,
            ) from refused
        stage: Stage = "window"
        reason = f"cannot be stored: {refused}"
        if prepared.dead:
            stage, reason = prepared.dead[0].stage, prepared.dead[0].error
        now_ms = self._clock.now_ms()
        problem = refused
        for form, left_out in _storable_forms(message):
            text = f"{reason}{left_out}"
            letter = DeadLetter(form, stage, one_line(text), now_ms)
            counts = {Count.FETCHED: 1, Count.DEAD: 1, Count.DISCARDED: batch.discarded}
            try:
                await self._apply(
                    self._nothing, always=True, source=source, dead=[letter], counts=counts
                )
                break
            except CommitRefusedError as error:
                problem = error
        else:
            raise problem
        if refused.by_store:
            refusals.in_a_row += 1
        _log.error(
            "%s: message %d became a dead letter: %s", self._name, message.stream_seq, reason
        )

    async def advance(self) -> None:
        """Close what the clock alone closes."""
        await self._apply(self._nothing)

    def _nothing(self) -> Plan:
        """A plan without messages; the clock may have closed windows."""
        return self.planner.plan((), self._clock.now_ms())

    async def close_all(self, reason: CloseReason, *, idle: bool = False) -> None:
        """Close every open window.

        Args:
            reason: what to say why.
            idle: whether other partitions of the task need not wait for this one.
        """
        await self._apply(lambda: self.planner.close_all(reason), idle=idle)

    async def _apply(
        self,
        make: Callable[[], Plan],
        *,
        idle: bool = False,
        always: bool = False,
        source: bytes | None = None,
        dead: Sequence[DeadLetter] = (),
        counts: dict[str, int] | None = None,
    ) -> None:
        """Commit a plan that adds no messages; one that changes nothing only where that is told."""
        source = self._source if source is None else source
        while True:
            plan = make()
            if plan.is_empty and not (idle or always):
                return
            try:
                await self._commit(Commit(plan, source, dead, counts or {}, idle=idle))
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
            else:
                self._source = source
                self.planner.apply(plan)
                return

    async def _commit(self, commit: Commit) -> None:
        for record in commit.plan.puts.values():
            record.config = record.config or self._config
        for window in commit.plan.closed:
            window.record.config = window.record.config or self._config
        if commit.dead and self._incarnation:
            dead = [structs.replace(one, incarnation=self._incarnation) for one in commit.dead]
            commit = replace(commit, dead=dead)
        await self._store(commit)

    def _account(
        self, messages: Sequence[Message], prepared: Prepared, plan: Plan
    ) -> tuple[list[DeadLetter], dict[str, int]]:
        """What a batch adds to the account, and its dead letters."""
        dead = prepared.dead
        late = len(plan.late)
        if late and self._dead_letters_late:
            now_ms = self._clock.now_ms()
            error = "late: its window had closed, and the watermark was past allowed_lateness"
            dead = dead + [DeadLetter(message, "window", error, now_ms) for message in plan.late]
            late = 0
        counts = {
            Count.FETCHED: len(messages),
            Count.FILTERED: prepared.filtered,
            Count.DEAD: len(dead),
            Count.LATE: late,
        }
        return dead, counts


def _let_die(prepared: Prepared, error: InvalidItemError, now_ms: int) -> None:
    """A trigger of the product's own failed on one message: that one alone is dead."""
    for place, entry in enumerate(prepared.entries):
        if entry.message.stream_seq == error.stream_seq:
            del prepared.entries[place]
            prepared.dead.append(DeadLetter(entry.message, "window", str(error), now_ms))
            return
    raise error


def _storable_forms(message: Message) -> Iterator[tuple[Message, str]]:
    """A message as it is, and with less and less of it, with what to say of that."""
    yield message, ""
    bare = structs.replace(message, headers=None)
    yield bare, "; its headers cannot be stored either"
    size = len(message.data)
    yield structs.replace(bare, data=b""), f"; nor can its {size} bytes of payload"
    subject = message.subject.encode("utf-8", "backslashreplace").decode()
    yield (
        structs.replace(bare, data=b"", subject=subject),
        f"; nor can its {size} bytes of payload and its subject as it is",
    )
