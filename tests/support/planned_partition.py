"""A partition in this process: plans batches, stores them, and notes which windows fired."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from sinfer.clock import ManualClock
from sinfer.errors import WindowConflictError
from sinfer.ingest.own_trigger import guarded
from sinfer.local.memory import MemoryPartition
from sinfer.store.partition.batch_commit import Commit
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Plan
from sinfer.windows.planner import CloseWhen, Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.records import pack_record, unpack_record
from sinfer.windows.specs import WindowSpec
from sinfer.windows.window import CloseReason
from tests.support.window_reference import PREFIX, Fired, Item, fired, window_spec

R = TypeVar("R")


def at_once(step: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that waits for nothing."""
    try:
        step.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError("it waits for something")


class PlannedPartition:
    """Plans batches and stores them in memory, as `sinfer run` does.

    Attributes:
        memory: the store.
        planner: plans the batches.
        fired: the windows that closed, in order.
        late: sequences of the items that came too late.
        watermark: the stored watermark.
    """

    planner: Planner

    def __init__(
        self,
        spec: WindowSpec | None = None,
        close_when: CloseWhen | None = None,
        **settings: Any,
    ) -> None:
        self.spec = spec or window_spec(**settings)
        self.close_when = None if close_when is None else guarded(close_when)
        self.clock = ManualClock(0)
        self.memory = MemoryPartition(Scope("product", "t", "p"), self.clock)
        self.fired: list[Fired] = []
        self.late: list[int] = []
        self.watermark: int | None = None
        self.restart()

    @property
    def open(self) -> Mapping[str, Any]:
        """Stored open windows by id."""
        return self.memory.open

    @property
    def chunks(self) -> Mapping[str, Sequence[Sequence[Message]]]:
        """What is stored, by segment."""
        return self.memory.segments

    @property
    def refs(self) -> Mapping[str, int]:
        """How many windows hold each shared segment."""
        return self.memory.holders

    def restart(self) -> None:
        """A new ingestor: it knows what is stored, and nothing else. Order does not survive."""
        stored = {name: pack_record(record) for name, record in self.open.items()}
        self.planner = make_planner(
            self.spec,
            PREFIX,
            windows={name: unpack_record(stored[name]) for name in sorted(stored, key=hash)},
            watermark_ms=self.watermark,
            close_when=self.close_when,
        )

    def take(self, items: Sequence[Item], now: int = 0) -> Plan:
        """Plan and store one batch, again when beat was there first."""
        entries = [item.entry for item in items]
        while True:
            plan = self.planner.plan(entries, now)
            try:
                self._store(plan)
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
            else:
                return plan

    def give(self, *times: int, key: str = "a", now: int = 0) -> None:
        """Store items one by one, numbered from 1 on."""
        for time_ms in times:
            self._seq = getattr(self, "_seq", 0) + 1
            self.take([Item(self._seq, key, time_ms)], now)

    def close_all(self, reason: CloseReason) -> None:
        """Close whatever is open, again when beat was there first."""
        while True:
            plan = self.planner.close_all(reason)
            try:
                self._store(plan)
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
            else:
                return

    def tick(self, now: int) -> None:
        """Beat closes what is due by the clock."""
        self.clock.advance_to(now)
        self.memory.close_due()
        self._note_fired()

    def _store(self, plan: Plan) -> None:
        before = set(self.open)
        at_once(self.memory.store(Commit(plan, b"")))
        assert all(messages for _, messages, _ in plan.appends)
        assert all((name in plan.opened) is (name not in before) for name in plan.puts)
        assert all(window.shares_segments is plan.shares for window in plan.closed)
        self._note_fired()
        self.late += [message.stream_seq for message in plan.late]
        if self.watermark is not None:
            assert plan.watermark_ms is not None
            assert plan.watermark_ms >= self.watermark
        self.watermark = plan.watermark_ms
        self.planner.apply(plan)
        if self.spec.time == "event" and self.spec.max_wait is None:
            assert {name for name, _ in self.planner.open_windows()} == set(self.open)

    def _note_fired(self) -> None:
        for window in self.memory.unfinished[len(self.fired) :]:
            self.fired.append(fired(window, self.memory.messages(window)))
