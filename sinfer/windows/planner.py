"""Planning: from a batch of entries and the open windows to a plan. Pure: no I/O, no clock.

A planner holds the open windows of one partition as they are stored. ``plan`` decides what a batch
changes without changing the planner; once the store has taken the plan, ``apply`` makes it the new
state. A plan that the store refused is simply forgotten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from sortedcontainers import SortedDict

from sinfer.messages import Message
from sinfer.units import to_ms
from sinfer.windows.plan import Entry, Plan
from sinfer.windows.records import ClosedWindow, Part, WindowRecord
from sinfer.windows.specs import WindowSpec
from sinfer.windows.window import CloseReason

Slot = Hashable
"""Where a planner keeps an open window: what an item's key and time decide."""


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


_Due = tuple[int, str, str, Slot]
"""Watermark at which a window is due, its key, id and slot."""

CloseWhen = Callable[[WindowStats, Any], bool]


class Held:
    """An open window in a planner's hands.

    Attributes:
        id: the id under which the store keeps it.
        record: its description.
        stored: whether the store has it already.
        fresh: messages that the current plan adds.
        due_ms: the watermark at which something happens to it; None for never.
    """

    __slots__ = ("due_ms", "fresh", "id", "record", "stored")

    def __init__(
        self, id: str, record: WindowRecord, *, stored: bool, due_ms: int | None = None
    ) -> None:
        self.id = id
        self.record = record
        self.stored = stored
        self.fresh: list[Message] = []
        self.due_ms = due_ms

    def copy(self) -> Held:
        """An independent copy without fresh messages."""
        return Held(self.id, copy(self.record), stored=self.stored, due_ms=self.due_ms)


class Planner(ABC):
    """Base of the planners, one for each window type.

    Args:
        spec: the ``window:`` part of the task.
        prefix: how the ids of the partition's windows begin.
        windows: the open windows as stored, by id.
        watermark_ms: the watermark as stored.
        close_when: the product's own trigger.
    """

    def __init__(
        self,
        spec: WindowSpec,
        prefix: str,
        *,
        windows: Mapping[str, WindowRecord] | None = None,
        watermark_ms: int | None = None,
        close_when: CloseWhen | None = None,
    ) -> None:
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
        self.watermark_ms = watermark_ms
        self._kept: dict[Slot, Held] = {}
        self._by_due: SortedDict[int, dict[Slot, None]] = SortedDict()
        self._slot_of: dict[str, Slot] = {}
        self._prepare()
        for window_id, record in (windows or {}).items():
            self._keep(self._slot(window_id, record), self._load(window_id, record))
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
            self._close(slot, held, "time")

    # --- planning ---

    def plan(self, entries: Iterable[Entry], now_ms: int) -> Plan:
        """Decide what a batch changes.

        Args:
            entries: the batch, in the order of the stream.
            now_ms: the store's clock, milliseconds since the epoch.
        """
        self._begin()
        if self.spec.time == "event":
            for entry in entries:
                time_ms = entry.time_ms
                self._add(entry, time_ms, now_ms)
                if self._mark is None or time_ms - self._delay > self._mark:
                    self._advance(time_ms - self._delay)
        else:
            if self._follows_watermark:
                self._advance(now_ms)
            for entry in entries:
                self._add(entry, now_ms, now_ms)
        return self._finish()

    def close_all(self, reason: CloseReason) -> Plan:
        """Close whatever is open, as for an idle source or, leaving nothing behind, a drain."""
        self._begin()
        for slot in list(self._kept):
            held = self._hold(slot)
            if held is not None and not held.record.revision:
                self._close(slot, held, reason)
                self._rule_out(held.record.end_ms)
        if reason == "drain":
            self._purge()
        return self._finish()

    def _purge(self) -> None:
        """Let go of what was kept for late items."""
        last = [self._by_due.peekitem(-1)[0]] if self._by_due else []
        last += [due[0] for due in self._draft_due]
        if last:
            self._advance(max([*last, *([] if self._mark is None else [self._mark])]))

    def _rule_out(self, end_ms: int | None) -> None:  # noqa: B027
        """After a close before its time: no window with such an end may open once more."""

    def apply(self, plan: Plan) -> None:
        """The store took the plan that was made last: it is the state now."""
        for slot, held in self._drafted.items():
            old = self._kept.get(slot)
            if held is not None:
                held.stored = True
            if (
                old is not None
                and held is not None
                and (old.id, old.due_ms) == (held.id, held.due_ms)
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
        """Watermark at which the next stored window is due; None when none waits for one."""
        return self._by_due.peekitem(0)[0] if self._by_due else None

    # --- state ---

    def _load(self, window_id: str, record: WindowRecord) -> Held:
        return Held(window_id, record, stored=True, due_ms=self._due_of(record))

    def _keep(self, slot: Slot, held: Held) -> None:
        self._kept[slot] = held
        self._slot_of[held.id] = slot
        if held.due_ms is not None:
            self._by_due.setdefault(held.due_ms, {})[slot] = None

    def _drop(self, slot: Slot, held: Held) -> None:
        del self._kept[slot]
        del self._slot_of[held.id]
        if held.due_ms is not None:
            slots = self._by_due[held.due_ms]
            del slots[slot]
            if not slots:
                del self._by_due[held.due_ms]

    # --- the draft of one plan ---

    def _begin(self) -> None:
        self._drafted: dict[Slot, Held | None] = {}
        self._plan = Plan()
        self._mark = self.watermark_ms
        self._scanned = self.watermark_ms
        self._draft_due: list[_Due] = []
        self._next_due = self.next_deadline_ms

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
        self._note_due(slot, held)
        return held

    def _open(self, slot: Slot, window_id: str, record: WindowRecord, now_ms: int) -> Held:
        if self._max_wait is not None:
            wait_until = now_ms + self._max_wait
            record.deadline_ms = min(record.deadline_ms or wait_until, wait_until)
        held = Held(window_id, record, stored=False, due_ms=self._due_of(record))
        self._drafted[slot] = held
        if self._updates:
            self._ref(held.id, 1)
        self._note_due(slot, held)
        return held

    def _note_due(self, slot: Slot, held: Held) -> None:
        due_ms = held.due_ms
        if due_ms is not None:
            heappush(self._draft_due, (due_ms, held.record.key, held.id, slot))
            if self._next_due is None or due_ms < self._next_due:
                self._next_due = due_ms

    def _append(self, held: Held, message: Message) -> None:
        record = held.record
        record.count += 1
        record.bytes += len(message.data)
        if message.stream_seq > record.last_seq:
            record.last_seq = message.stream_seq
        elif message.stream_seq < record.first_seq:
            record.first_seq = message.stream_seq
        held.fresh.append(message)

    def _trigger(self, slot: Slot, held: Held, entry: Entry) -> None:
        """Close a window whose count, bytes or own condition asks for it."""
        record = held.record
        if self._max_count is not None and record.count >= self._max_count:
            self._close(slot, held, "count")
        elif self._max_bytes is not None and record.bytes >= self._max_bytes:
            self._close(slot, held, "bytes")
        elif self._close_when is not None and self._close_when(
            WindowStats(record.count, record.bytes, record.start_ms, record.end_ms), entry.item
        ):
            self._close(slot, held, "condition")

    def _seal(self, held: Held) -> None:
        """Make the fresh messages of a window a chunk of its segment."""
        if held.fresh:
            self._plan.appends.append((held.id, held.fresh))
            held.record.chunks += 1
            held.fresh = []

    def _close(self, slot: Slot, held: Held, reason: CloseReason) -> None:
        self._seal(held)
        record = copy(held.record)
        if not self._updates:
            self._plan.closed.append(ClosedWindow(self._instance_id(held), record, reason))
            self._remove(slot, held)
            return
        record.parts = [Part(held.id, record.chunks)]
        self._ref(held.id, 1)
        self._plan.closed.append(ClosedWindow(self._instance_id(held), record, reason))
        held.record.revision += 1
        held.due_ms = self._due_of(held.record)
        self._note_due(slot, held)

    def _instance_id(self, held: Held) -> str:
        """The id of the window that closes now: its own, or that of its next revision."""
        if not held.record.revision:
            return held.id
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
        while self._next_due is not None and mark >= self._next_due:
            for due_ms, _, window_id, slot in sorted(
                [*self._stored_due(mark), *self._drafts_due(mark)]
            ):
                held = self._hold(slot)
                if held is not None and held.id == window_id and held.due_ms == due_ms:
                    self._on_due(slot, held)
            self._scanned = mark
            following = next(self._by_due.irange(mark, inclusive=(False, True)), None)
            drafted = self._draft_due[0][0] if self._draft_due else None
            both = [due for due in (following, drafted) if due is not None]
            self._next_due = min(both, default=None)

    def _stored_due(self, mark: int) -> Iterator[_Due]:
        """Due windows that the plan has not touched."""
        if self._scanned is not None and self._scanned >= mark:
            return
        for due_ms in self._by_due.irange(self._scanned, mark, inclusive=(False, True)):
            for slot in self._by_due[due_ms]:
                if slot not in self._drafted:
                    held = self._kept[slot]
                    yield due_ms, held.record.key, held.id, slot

    def _drafts_due(self, mark: int) -> Iterator[_Due]:
        """Due windows among those that the plan changes; some may have moved on meanwhile."""
        while self._draft_due and self._draft_due[0][0] <= mark:
            yield heappop(self._draft_due)

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
