"""Planning: from a batch of entries and the open windows to a plan. Pure: no I/O, no clock.

A planner holds the open windows of one partition as they are stored. ``plan`` decides what a batch
changes without changing the planner; once the store has taken the plan, ``apply`` makes it the new
state. A plan that the store refused is simply forgotten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from sinfer.config.units import to_ms
from sinfer.errors import InvalidItemError
from sinfer.windows.open_window import Held, Slot
from sinfer.windows.plan import Append, Entry, Plan
from sinfer.windows.records import ClosedWindow, Part, WindowRecord
from sinfer.windows.specs import WindowSpec
from sinfer.windows.timers import DueIndex
from sinfer.windows.window import CloseReason


@dataclass(frozen=True, slots=True)
class WindowStats:
    """What a product's ``close_when`` may look at.

    Attributes:
        count: items in the window, the new one included.
        bytes: sum of their payloads.
        start_ms, end_ms: its bounds, milliseconds since the epoch; None for count windows.
    """

    count: int
    bytes: int
    start_ms: int | None
    end_ms: int | None


CloseWhen = Callable[[WindowStats, Any], bool]


def _by_deadline(window: tuple[str, WindowRecord]) -> tuple[int, int]:
    return window[1].deadline_ms, window[1].first_seq


class Planner(ABC):
    """Base of the planners, one for each window type.

    Args:
        spec: the ``window:`` part of the task.
        prefix: how the ids of the partition's windows begin.
        windows: the open windows as stored, by id.
        watermark_ms: the watermark as stored.
        close_when: the product's own trigger.
        incarnation: of the source, noted on windows that open from now on.
        repeats_to: noted likewise; see ``WindowRecord``.
    """

    due_reason: ClassVar[CloseReason] = "time"
    """Why a window closes whose end has come."""

    def __init__(
        self,
        spec: WindowSpec,
        prefix: str,
        *,
        windows: Mapping[str, WindowRecord] | None = None,
        watermark_ms: int | None = None,
        close_when: CloseWhen | None = None,
        incarnation: str = "",
        repeats_to: int = 0,
    ) -> None:
        self._incarnation = incarnation
        self._repeats_to = repeats_to
        self.spec = spec
        self._prefix = prefix
        self._close_when = close_when
        self._follows_watermark = spec.time == "event"
        self._max_count = spec.max_count
        self._max_bytes = None if spec.max_bytes is None else int(spec.max_bytes)
        self._max_wait = None if spec.max_wait is None else to_ms(spec.max_wait)
        self._delay = to_ms(spec.max_out_of_orderness)
        self._lateness = to_ms(spec.allowed_lateness)
        self._updates = spec.late == "update"
        self._shares = self._updates
        self.watermark_ms = watermark_ms
        self._kept: dict[Slot, Held] = {}
        self._slot_of: dict[str, Slot] = {}
        self._due = DueIndex()
        self._deadlines = DueIndex()
        self._prepare()
        for window_id, record in sorted((windows or {}).items(), key=_by_deadline):
            held = Held(window_id, record, stored=True, due_ms=self._due_of(record))
            slot = self._slot(window_id, record)
            if slot in self._kept:  # overdue, and its successor is open already
                self._drop(slot, self._kept[slot])
            self._keep(slot, held)
        self._begin()

    # --- what the types differ in ---

    def _prepare(self) -> None:  # noqa: B027
        """Set up what a type needs, before the stored windows are loaded."""

    @abstractmethod
    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        """Where a stored window belongs."""

    @abstractmethod
    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        """Put one entry into its windows."""

    def _due_of(self, record: WindowRecord) -> int | None:
        """The watermark at which something happens to a window."""
        if not self._follows_watermark or record.end_ms is None:
            return None
        return record.end_ms if not record.revision else record.end_ms + self._lateness

    def _on_due(self, slot: Slot, held: Held) -> None:
        """The watermark passed a window's due time: it fires, or needs its messages no more."""
        if held.record.revision:
            self._seal(held)
            self._ref(held.id, -1)
            self._remove(slot, held)
        else:
            self._close(slot, held, self.due_reason)

    def _rule_out(self, end_ms: int) -> None:  # noqa: B027
        """After windows closed before their time: none with such an end may open once more."""

    # --- planning ---

    def plan(self, entries: Iterable[Entry], now_ms: int) -> Plan:
        """Decide what a batch changes.

        Windows whose deadline has passed take no more messages, whether or not beat has closed them
        by now; the planner knows nothing of them afterwards.

        Args:
            entries: the batch, in the order of the stream.
            now_ms: the store's clock, milliseconds since the epoch.

        Raises:
            InvalidItemError: the product's ``close_when`` failed on the message of its
                ``stream_seq``; plan again without it.
        """
        self._leave_to_beat(now_ms)
        self._begin()
        if self.spec.time == "event":
            for entry in entries:
                time_ms = entry.time_ms
                self._add(entry, time_ms, now_ms)
                if self._mark is None or time_ms - self._delay > self._mark:
                    self._advance(time_ms - self._delay)
        else:
            if self._follows_watermark:
                now_ms = now_ms if self._mark is None else max(now_ms, self._mark)
                self._advance(now_ms)
            for entry in entries:
                self._add(entry, now_ms, now_ms)
        return self._finish()

    def close_all(self, reason: CloseReason) -> Plan:
        """Close whatever is open, as for an idle source or, leaving nothing behind, a drain."""
        self._begin()
        still_open = sorted(
            (held.record.end_ms or 0, held.record.key, held.id, slot)
            for slot, held in self._kept.items()
            if not held.record.revision
        )
        for *_, slot in still_open:
            held = self._hold(slot)
            if held is not None:
                self._close(slot, held, reason)
        if still_open:
            self._rule_out(still_open[-1][0])
        if reason == "drain" and self._updates:
            self._purge()
        return self._finish()

    def _purge(self) -> None:
        """Let go of what was kept for late items."""
        last = self._due.last
        if last is not None and (self._mark is None or last > self._mark):
            self._advance(last)

    def apply(self, plan: Plan) -> None:
        """The store took the plan that was made last: it is the state now."""
        for slot, held in self._drafted.items():
            old = self._kept.get(slot)
            if held is not None:
                held.stored = True
            if (
                old is not None
                and held is not None
                and (old.id, old.due_ms, old.record.deadline_ms)
                == (held.id, held.due_ms, held.record.deadline_ms)
            ):
                self._kept[slot] = held
                continue
            if old is not None:
                self._drop(slot, old)
            if held is not None:
                self._keep(slot, held)
        self.watermark_ms = plan.watermark_ms
        self._begin()

    def forget(self, window_ids: Iterable[str]) -> None:
        """Someone else closed these windows: they take no more messages."""
        for window_id in window_ids:
            slot = self._slot_of.get(window_id)
            if slot is not None:
                self._drop(slot, self._kept[slot])
        self._begin()

    def open_windows(self) -> Iterator[tuple[str, WindowRecord]]:
        """The open windows as stored."""
        return ((held.id, held.record) for held in self._kept.values())

    @property
    def next_deadline_ms(self) -> int | None:
        """Watermark at which a stored window is due next; None when none waits for one."""
        return self._due.first

    # --- state ---

    def _leave_to_beat(self, now_ms: int) -> None:
        self._deadlines.begin()
        for _, slot in self._deadlines.take(now_ms):
            self._drop(slot, self._kept[slot])

    def _keep(self, slot: Slot, held: Held) -> None:
        self._kept[slot] = held
        self._slot_of[held.id] = slot
        if held.due_ms is not None:
            self._due.keep(held.due_ms, (held.record.key, held.id, slot))
        if held.record.deadline_ms:
            self._deadlines.keep(held.record.deadline_ms, slot)

    def _drop(self, slot: Slot, held: Held) -> None:
        del self._kept[slot]
        del self._slot_of[held.id]
        if held.due_ms is not None:
            self._due.drop(held.due_ms, (held.record.key, held.id, slot))
        if held.record.deadline_ms:
            self._deadlines.drop(held.record.deadline_ms, slot)

    # --- the draft of one plan ---

    def _begin(self) -> None:
        self._drafted: dict[Slot, Held | None] = {}
        self._plan = Plan(shares=self._shares)
        self._mark = self.watermark_ms
        self._due.begin()

    def _hold(self, slot: Slot) -> Held | None:
        """The open window of a slot, ready to be changed; None when there is none."""
        try:
            return self._drafted[slot]
        except KeyError:
            kept = self._kept.get(slot)
            if kept is None:
                return None
        held = kept.copy()
        self._drafted[slot] = held
        self._plan.required.add(held.id)
        return held

    def _peek(self, slot: Slot) -> Held | None:
        """The open window of a slot, not to be changed; None when there is none."""
        return self._drafted[slot] if slot in self._drafted else self._kept.get(slot)

    def _open(self, slot: Slot, window_id: str, record: WindowRecord, now_ms: int) -> Held:
        if self._max_wait is not None:
            wait_until = now_ms + self._max_wait
            record.deadline_ms = min(record.deadline_ms or wait_until, wait_until)
        self._mark_origin(record)
        held = Held(window_id, record, stored=False)
        self._drafted[slot] = held
        if self._shares:
            self._ref(held.id, 1)
            self._plan.created.add(held.id)
        self._set_due(slot, held, self._due_of(record))
        return held

    def _mark_origin(self, record: WindowRecord) -> None:
        """Note on a window that opens which messages it is of."""
        record.incarnation = self._incarnation
        record.repeats_to = self._repeats_to

    def _set_due(self, slot: Slot, held: Held, due_ms: int | None) -> None:
        held.due_ms = due_ms
        if due_ms is not None:
            self._due.note(due_ms, (held.record.key, held.id, slot))

    def _trigger(self, slot: Slot, held: Held, entry: Entry) -> None:
        """Close a window whose count, bytes or own condition asks for it."""
        record = held.record
        if self._max_count is not None and record.count >= self._max_count:
            self._close(slot, held, "count")
        elif self._max_bytes is not None and record.bytes >= self._max_bytes:
            self._close(slot, held, "bytes")
        elif self._close_when is not None and self._asks_to_close(record, entry):
            self._close(slot, held, "condition")

    def _asks_to_close(self, record: WindowRecord, entry: Entry) -> bool:
        assert self._close_when is not None
        stats = WindowStats(record.count, record.bytes, record.start_ms, record.end_ms)
        try:
            return self._close_when(stats, entry.item)
        except InvalidItemError as error:
            raise InvalidItemError(str(error), stream_seq=entry.message.stream_seq) from error

    def _seal(self, held: Held) -> None:
        """Make the fresh messages of a window a chunk of its segment."""
        if held.fresh:
            held.record.chunks += 1
            self._plan.appends.append(Append(held.id, held.fresh, held.record.chunks))
            held.fresh = []

    def _close(self, slot: Slot, held: Held, reason: CloseReason) -> None:
        self._seal(held)
        record = copy(held.record)
        if not self._updates:
            self._plan.closed.append(ClosedWindow(held.id, record, reason))
            self._remove(slot, held)
            return
        record.parts = [Part(held.id, record.chunks)]
        record.shared = True
        self._ref(held.id, 1)
        self._plan.closed.append(ClosedWindow(self._instance_id(held), record, reason))
        held.record.revision += 1
        self._set_due(slot, held, self._due_of(held.record))

    def _instance_id(self, held: Held) -> str:
        """The id of the window that closes now: its own, or that of its next revision."""
        return f"{held.id.rpartition('/')[0]}/{held.record.revision}"

    def _remove(self, slot: Slot, held: Held) -> None:
        self._drafted[slot] = None
        if held.stored:
            self._plan.removed.append(held.id)

    def _ref(self, segment: str, change: int) -> None:
        self._plan.refs[segment] = self._plan.refs.get(segment, 0) + change

    def _advance(self, mark: int) -> None:
        """Move the watermark, and do what that makes due, in the order of due times and keys."""
        self._mark = mark
        while self._due.is_due(mark):
            for due_ms, (_, window_id, slot) in self._due.take(mark):
                held = self._hold(slot)
                if held is not None and held.id == window_id and held.due_ms == due_ms:
                    self._on_due(slot, held)

    def _finish(self) -> Plan:
        plan = self._plan
        for held in self._drafted.values():
            if held is not None:
                self._seal(held)
                plan.puts[held.id] = held.record
                if not held.stored:
                    plan.opened.add(held.id)
        plan.watermark_ms = self._mark
        return plan
