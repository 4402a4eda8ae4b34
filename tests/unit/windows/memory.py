"""A partition whose store is a few dictionaries: applies plans and checks that they make sense."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from sinfer.errors import WindowConflictError
from sinfer.types.message import Message
from sinfer.windows.plan import Plan
from sinfer.windows.planner import CloseWhen, Planner
from sinfer.windows.planners import make_planner
from sinfer.windows.records import pack_record, unpack_record
from sinfer.windows.specs import WindowSpec
from sinfer.windows.window import CloseReason
from tests.window_reference import PREFIX, Fired, Item, fired, window_spec


class MemoryPartition:
    """Plans batches and stores them, as an ingestor and Redis do together.

    Attributes:
        fired: the windows that closed, in order.
        late: sequences of the items that came too late.
        chunks: what was stored, by segment.
    """

    def __init__(
        self,
        spec: WindowSpec | None = None,
        close_when: CloseWhen | None = None,
        **settings: Any,
    ) -> None:
        self.spec = spec or window_spec(**settings)
        self.close_when = close_when
        self.fired: list[Fired] = []
        self.late: list[int] = []
        self.chunks: dict[str, list[list[Message]]] = defaultdict(list)
        self.refs: Counter[str] = Counter()
        self._open: dict[str, bytes] = {}
        self._watermark: int | None = None
        self.planner: Planner
        self.restart()

    @property
    def open(self) -> dict[str, bytes]:
        """Stored open windows by id."""
        return self._open

    @property
    def watermark(self) -> int | None:
        """The stored watermark."""
        return self._watermark

    def restart(self) -> None:
        """A new ingestor: it knows what is stored, and nothing else. Order does not survive."""
        windows = {name: unpack_record(self._open[name]) for name in sorted(self._open, key=hash)}
        self.planner = make_planner(
            self.spec,
            PREFIX,
            windows=windows,
            watermark_ms=self._watermark,
            close_when=self.close_when,
        )

    def take(self, items: Sequence[Item], now: int = 0) -> Plan:
        """Plan and store one batch, again when beat was there first."""
        entries = [item.entry for item in items]
        while True:
            plan = self.planner.plan(entries, now)
            try:
                self._store(plan, now)
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
                self._store(plan, 0)
            except WindowConflictError as conflict:
                self.planner.forget(conflict.window_ids)
            else:
                return

    def tick(self, now: int) -> None:
        """Beat closes what is due by the clock."""
        due = sorted(
            (record.deadline_ms, name, record)
            for name, record in ((name, unpack_record(blob)) for name, blob in self._open.items())
            if record.deadline_ms and record.deadline_ms <= now
        )
        for _, name, record in due:
            del self._open[name]
            chunks = [chunk for part in record.parts for chunk in self.chunks[part.segment]]
            chunks = chunks or self.chunks[name]
            messages = [message for chunk in chunks for message in chunk]
            self.fired.append(
                Fired(
                    name,
                    record.deadline_reason,
                    record.start_ms,
                    record.end_ms,
                    record.revision,
                    tuple(sorted(message.stream_seq for message in messages)),
                )
            )

    def _store(self, plan: Plan, now: int) -> None:
        gone = tuple(name for name in plan.required if name not in self._open)
        if gone:
            raise WindowConflictError("closed meanwhile", now, gone)
        for segment, messages, _ in plan.appends:
            assert messages
            self.chunks[segment].append(list(messages))
        for name in plan.removed:
            del self._open[name]
        for name, record in plan.puts.items():
            assert (name in plan.opened) is (name not in self._open)
            self._open[name] = pack_record(record)
        for window in plan.closed:
            assert window.shares_segments is plan.shares
            chunks = [c for part in window.parts for c in self.chunks[part.segment][: part.chunks]]
            messages = [message for chunk in chunks for message in chunk]
            self.fired.append(fired(window, messages))
        for segment, change in plan.refs.items():
            self.refs[segment] += change
            assert self.refs[segment] >= 0
        self.late += [message.stream_seq for message in plan.late]
        if self._watermark is not None:
            assert plan.watermark_ms is not None
            assert plan.watermark_ms >= self._watermark
        self._watermark = plan.watermark_ms
        self.planner.apply(plan)
        if self.spec.time == "event" and self.spec.max_wait is None:
            assert {name for name, _ in self.planner.open_windows()} == set(self._open)
