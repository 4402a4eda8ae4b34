"""From batches to commits: prepare, plan, commit, and plan again when a window closed meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import structs

from sinfer.clock import Clock
from sinfer.errors import InvalidItemError, WindowConflictError
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.messages import Message
from sinfer.products.pipeline import InferPipeline
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.plan import Plan
from sinfer.windows.planner import Planner
from sinfer.windows.window import CloseReason
from sinfer.windows.writer import Commit

Store = Callable[[Commit], Awaitable[None]]
"""Stores a commit, all of it or nothing; raises ``WindowConflictError`` as the store does."""


class Windower:
    """Puts the messages of one partition into its windows.

    Args:
        pipeline: the product's code, made for the task.
        planner: holds the partition's open windows.
        clock: the store's clock; ``store`` keeps it right.
        store: stores what is decided.
        config: noted on windows as the configuration they were opened under.
        source: the reader's state as it is stored.
        incarnation: of the source, noted on dead letters.
    """

    def __init__(
        self,
        pipeline: InferPipeline[Any, Any],
        planner: Planner,
        clock: Clock,
        store: Store,
        *,
        config: str = "",
        source: bytes = b"",
        incarnation: str = "",
    ) -> None:
        self._incarnation = incarnation
        self.planner = planner
        self._preparer = Preparer(pipeline)
        self._dead_letters_late = pipeline.task.window.late == "dead_letter"
        self._clock = clock
        self._store = store
        self._config = config
        self._source = source

    async def take(self, messages: Sequence[Message], source: bytes) -> None:
        """Put a batch into windows.

        Args:
            messages: new ones only, in the order of the stream. May be empty.
            source: the reader's state with them.
        """
        prepared = self._preparer.prepare(messages, self._clock.now_ms())
        while True:
            try:
                plan = self.planner.plan(prepared.entries, self._clock.now_ms())
                dead, counts = self._account(messages, prepared, plan)
                await self._commit(Commit(plan, source, dead, counts))
                break
            except InvalidItemError as error:
                _give_up(prepared, error, self._clock.now_ms())
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
        self._source = source
        self.planner.apply(plan)

    async def advance(self) -> None:
        """Close what the clock alone closes."""
        await self._apply(lambda: self.planner.plan((), self._clock.now_ms()))

    async def close_all(self, reason: CloseReason, *, idle: bool = False) -> None:
        """Close every open window.

        Args:
            reason: what to say why.
            idle: whether other partitions of the task need not wait for this one.
        """
        await self._apply(lambda: self.planner.close_all(reason), idle=idle)

    async def _apply(self, make: Callable[[], Plan], *, idle: bool = False) -> None:
        while True:
            plan = make()
            if plan.is_empty and not idle:
                return
            try:
                await self._commit(Commit(plan, self._source, idle=idle))
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
            else:
                self.planner.apply(plan)
                return

    async def _commit(self, commit: Commit) -> None:
        for record in commit.plan.puts.values():
            record.config = record.config or self._config
        for window in commit.plan.closed:
            window.record.config = window.record.config or self._config
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
            "fetched": len(messages),
            "filtered": prepared.filtered,
            "dead": len(dead),
            "late": late,
        }
        return [structs.replace(one, incarnation=self._incarnation) for one in dead], counts


def _give_up(prepared: Prepared, error: InvalidItemError, now_ms: int) -> None:
    """A trigger of the product's own failed on one message: that one alone is dead."""
    for place, entry in enumerate(prepared.entries):
        if entry.message.stream_seq == error.stream_seq:
            del prepared.entries[place]
            prepared.dead.append(DeadLetter(entry.message, "window", str(error), now_ms))
            return
    raise error
