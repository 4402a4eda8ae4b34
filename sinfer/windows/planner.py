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
from sinfer.types.message import Message
from sinfer.windows.latency_curve import LatencyCurve
from sinfer.windows.open_window import OpenWindow, Slot
from sinfer.windows.plan import Append, Entry, Plan
from sinfer.windows.records import ClosedWindow, Part, WindowRecord
from sinfer.windows.specs import WindowSpec
from sinfer.windows.timers import Timers
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


_OWN_SHARE, _OWN_MS = 0.1, 10
"""Of a deadline so much is for all but the model: at least so many milliseconds, if there are as
many. And so long a window waits for company at least, however slow the model is."""


@dataclass(frozen=True, slots=True)
class WindowOrigin:
    """What is noted on windows that open; see ``WindowRecord``.

    Attributes:
        incarnation: of the source.
        repeats_to: stream sequence up to which results may be in sinks already.
        version: of the product's code.
    """

    incarnation: str = ""
    repeats_to: int = 0
    version: str = ""


CloseWhen = Callable[[WindowStats, Any], bool]


def _place(record: WindowRecord) -> int:
    """Orders windows by their deadlines, then by their first messages. A number and no tuple: of a
    million of these the garbage collector would make sure again and again."""
    return record.deadline_ms << 64 | record.first_seq


class Planner(ABC):
    """Base of the planners, one for each window type.

    Args:
        spec: the ``window:`` part of the task.
        prefix: how the ids of the partition's windows begin.
        windows: the open windows as stored, by id.
        watermark_ms: the watermark as stored.
        close_when: the product's own trigger.
        origin: what is noted on windows that open from now on; nothing by default.

    Attributes:
        spec: as above.
        watermark_ms: the watermark as of the last plan that was applied.
        curve: what is known of the model; None where that is nothing, and half of a deadline is
            left to it.
    """

    timer_reason: ClassVar[CloseReason] = "time"
    """Why a window closes whose end has come."""

    def __init__(
        self,
        spec: WindowSpec,
        prefix: str,
        *,
        windows: Mapping[str, WindowRecord] | None = None,
        watermark_ms: int | None = None,
        close_when: CloseWhen | None = None,
        origin: WindowOrigin | None = None,
    ) -> None:
        self._origin = origin or WindowOrigin()
        self.spec = spec
        self._prefix = prefix
        self._close_when = close_when
        self._follows_watermark = spec.time == "event"
        self._max_count = spec.max_count
        self._max_bytes = None if spec.max_bytes is None else int(spec.max_bytes)
        self._has_triggers = (
            close_when is not None or spec.max_count is not None or spec.max_bytes is not None
        )
        self._max_wait = None if spec.max_wait is None else to_ms(spec.max_wait)
        self._deadline = None if spec.deadline is None else to_ms(spec.deadline)
        self.curve: LatencyCurve | None = None
        self._delay = to_ms(spec.max_out_of_orderness)
        self._lateness = to_ms(spec.allowed_lateness)
        self._updates = spec.late == "update"
        self._shares = self._updates
        self.watermark_ms = watermark_ms
        self._stored: dict[Slot, OpenWindow] = {}
        self._slot_of: dict[str, Slot] = {}
        self._timers = Timers()
        self._deadlines = Timers()
        self._prepare()
        windows = windows or {}
        for window_id in sorted(windows, key=lambda name: _place(windows[name])):
            record = windows[window_id]
            window = OpenWindow(window_id, record, stored=True, due_ms=self._timer_of(record))
            slot = self._slot(window_id, record)
            if slot in self._stored:  # overdue, and its successor is open already
                self._drop(slot, self._stored[slot])
            self._keep(slot, window)
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

    def _timer_of(self, record: WindowRecord) -> int | None:
        """The watermark at which something happens to a window."""
        if not self._follows_watermark or record.end_ms is None:
            return None
        return record.end_ms if not record.revision else record.end_ms + self._lateness

    def _on_timer(self, slot: Slot, window: OpenWindow) -> None:
        """The watermark passed a window's due time: it fires, or needs its messages no more."""
        if window.record.revision:
            self._cut_chunk(window)
            self._ref(window.id, -1)
            self._remove(slot, window)
        else:
            self._close(slot, window, self.timer_reason)

    def _rule_out(self, end_ms: int) -> None:  # noqa: B027
        """After windows closed before their time: none with such an end may open once more."""

    # --- planning ---

    def plan(self, entries: Iterable[Entry], now_ms: int) -> Plan:
        """Decide what a batch changes.

        Windows that the clock closes take no more messages once that is due, whether or not beat
        has closed them already; the planner knows nothing of them afterwards. Those that would miss
        the deadline of their results it closes itself: that has to be on time.

        Args:
            entries: the batch, in the order of the stream.
            now_ms: the store's clock, milliseconds since the epoch.

        Raises:
            InvalidItemError: the product's ``close_when`` failed on the message of its
                ``stream_seq``; plan again without it.
        """
        overdue = self._leave_to_beat(now_ms)
        self._begin()
        for slot in overdue:
            window = self._for_change(slot)
            if window is not None:
                self._close(slot, window, "deadline")
        if self.spec.time == "event":
            for entry in entries:
                time_ms = entry.time_ms
                self._add(entry, time_ms, now_ms)
                if self._watermark is None or time_ms - self._delay > self._watermark:
                    self._advance(time_ms - self._delay)
        else:
            if self._follows_watermark:
                now_ms = now_ms if self._watermark is None else max(now_ms, self._watermark)
                self._advance(now_ms)
            for entry in entries:
                self._add(entry, now_ms, now_ms)
        return self._finish()

    def close_all(self, reason: CloseReason) -> Plan:
        """Close whatever is open, as for an idle source or, leaving nothing behind, a drain."""
        self._begin()
        still_open = sorted(
            (window.record.end_ms or 0, window.record.key, window.id, slot)
            for slot, window in self._stored.items()
            if not window.record.revision
        )
        for *_, slot in still_open:
            window = self._for_change(slot)
            if window is not None:
                self._close(slot, window, reason)
        if still_open:
            self._rule_out(still_open[-1][0])
        if reason == "drain" and self._updates:
            self._purge()
        return self._finish()

    def _purge(self) -> None:
        """Let go of what was kept for late items."""
        last = self._timers.last
        if last is not None and (self._watermark is None or last > self._watermark):
            self._advance(last)

    def apply(self, plan: Plan) -> None:
        """The store took the plan that was made last: it is the state now."""
        for slot, window in self._drafted.items():
            old = self._stored.get(slot)
            if window is not None:
                window.stored = True
            if (
                old is not None
                and window is not None
                and (old.id, old.due_ms, old.record.deadline_ms)
                == (window.id, window.due_ms, window.record.deadline_ms)
            ):
                self._stored[slot] = window
                continue
            if old is not None:
                self._drop(slot, old)
            if window is not None:
                self._keep(slot, window)
        self.watermark_ms = plan.watermark_ms
        self._begin()

    def forget(self, window_ids: Iterable[str]) -> None:
        """Someone else closed these windows: they take no more messages."""
        for window_id in window_ids:
            slot = self._slot_of.get(window_id)
            if slot is not None:
                self._drop(slot, self._stored[slot])
        self._begin()

    def open_windows(self) -> Iterator[tuple[str, WindowRecord]]:
        """The open windows as stored."""
        return ((window.id, window.record) for window in self._stored.values())

    @property
    def next_deadline_ms(self) -> int | None:
        """Watermark at which a stored window is due next; None when none waits for one."""
        return self._timers.first

    # --- state ---

    def _leave_to_beat(self, now_ms: int) -> list[Slot]:
        """Forget what beat closes; returns where those are that it does not."""
        overdue: list[Slot] = []
        if self._deadlines.is_used:
            self._deadlines.begin()
            for _, slot in self._deadlines.take(now_ms):
                if self._stored[slot].record.deadline_reason == "deadline":
                    overdue.append(slot)
                else:
                    self._drop(slot, self._stored[slot])
        return overdue

    def closes_in_ms(self, now_ms: int) -> int | None:
        """When the planner may have a window to close by the clock, milliseconds from now; None
        where it leaves all of that to beat."""
        if self._deadline is None or self._deadlines.first is None:
            return None
        return max(0, self._deadlines.first - now_ms)

    def _keep(self, slot: Slot, window: OpenWindow) -> None:
        self._stored[slot] = window
        self._slot_of[window.id] = slot
        if window.due_ms is not None:
            self._timers.keep(window.due_ms, (window.record.key, window.id, slot))
        if window.record.deadline_ms:
            self._deadlines.keep(window.record.deadline_ms, slot)

    def _drop(self, slot: Slot, window: OpenWindow) -> None:
        del self._stored[slot]
        del self._slot_of[window.id]
        if window.due_ms is not None:
            self._timers.drop(window.due_ms, (window.record.key, window.id, slot))
        if window.record.deadline_ms:
            self._deadlines.drop(window.record.deadline_ms, slot)

    # --- the draft of one plan ---

    def _begin(self) -> None:
        self._drafted: dict[Slot, OpenWindow | None] = {}
        self._plan = Plan(shares=self._shares)
        self._watermark = self.watermark_ms
        if self._timers.is_used:
            self._timers.begin()

    def _for_change(self, slot: Slot) -> OpenWindow | None:
        """The open window of a slot, ready to be changed; None when there is none."""
        try:
            return self._drafted[slot]
        except KeyError:
            kept = self._stored.get(slot)
            if kept is None:
                return None
        window = OpenWindow(kept.id, copy(kept.record), kept.stored, kept.due_ms)
        self._drafted[slot] = window
        self._plan.required.add(window.id)
        return window

    def _as_it_is(self, slot: Slot) -> OpenWindow | None:
        """The open window of a slot, not to be changed; None when there is none."""
        return self._drafted[slot] if slot in self._drafted else self._stored.get(slot)

    def _open(self, slot: Slot, window_id: str, record: WindowRecord, now_ms: int) -> OpenWindow:
        if self._max_wait is not None:
            wait_until = now_ms + self._max_wait
            record.deadline_ms = min(record.deadline_ms or wait_until, wait_until)
        if self._deadline is not None:
            record.first_ms = now_ms
        self._mark_origin(record)
        window = OpenWindow(window_id, record, stored=False)
        self._drafted[slot] = window
        if self._shares:
            self._ref(window.id, 1)
            self._plan.created.add(window.id)
        self._set_timer(slot, window, self._timer_of(record))
        return window

    def _mark_origin(self, record: WindowRecord) -> None:
        """Note on a window that opens which messages it is of, and whose code cuts it."""
        origin = self._origin
        record.incarnation, record.repeats_to = origin.incarnation, origin.repeats_to
        record.version = origin.version

    def _put(self, window: OpenWindow, message: Message) -> None:
        """Add a message to a window that may be changed."""
        record = window.record
        record.count += 1
        record.bytes += len(message.data)
        if message.stream_seq > record.last_seq:
            record.last_seq = message.stream_seq
        elif message.stream_seq < record.first_seq:
            record.first_seq = message.stream_seq
            self._plan.earlier.add(window.id)
        if window.fresh is None:
            window.fresh = [message]
        else:
            window.fresh.append(message)
        if self._deadline is not None and record.first_ms:
            self._heed_deadline(record, self._deadline)

    def _heed_deadline(self, record: WindowRecord, deadline_ms: int) -> None:
        """Have a window close in time for its results: the sooner, the more items it has.

        Where the model alone takes longer than that, closing at once would not help either; a
        window waits for company at least a little.
        """
        model_ms = deadline_ms / 2 if self.curve is None else self.curve.expected_ms(record.count)
        own_ms = max(_OWN_SHARE * deadline_ms, min(_OWN_MS, deadline_ms / 2))
        wait_ms = max(deadline_ms - model_ms - own_ms, _OWN_SHARE * deadline_ms)
        close_ms = record.first_ms + int(wait_ms)
        if not record.deadline_ms or close_ms < record.deadline_ms:
            record.deadline_ms, record.deadline_reason = close_ms, "deadline"

    def _set_timer(self, slot: Slot, window: OpenWindow, due_ms: int | None) -> None:
        window.due_ms = due_ms
        if due_ms is not None:
            self._timers.note(due_ms, (window.record.key, window.id, slot))

    def _trigger(self, slot: Slot, window: OpenWindow, entry: Entry) -> None:
        """Close a window whose count, bytes or own condition asks for it."""
        record = window.record
        if self._max_count is not None and record.count >= self._max_count:
            self._close(slot, window, "count")
        elif self._max_bytes is not None and record.bytes >= self._max_bytes:
            self._close(slot, window, "bytes")
        elif self._close_when is not None and self._asks_to_close(record, entry):
            self._close(slot, window, "condition")

    def _asks_to_close(self, record: WindowRecord, entry: Entry) -> bool:
        assert self._close_when is not None
        stats = WindowStats(record.count, record.bytes, record.start_ms, record.end_ms)
        try:
            return self._close_when(stats, entry.item)
        except InvalidItemError as error:
            raise InvalidItemError(str(error), stream_seq=entry.message.stream_seq) from error

    def _cut_chunk(self, window: OpenWindow) -> None:
        """Make the fresh messages of a window a chunk of its segment."""
        if window.fresh:
            window.record.chunks += 1
            self._plan.appends.append(Append(window.id, window.fresh, window.record.chunks))
            window.fresh = None

    def _close(self, slot: Slot, window: OpenWindow, reason: CloseReason) -> None:
        self._cut_chunk(window)
        record = copy(window.record)
        if not self._updates:
            self._plan.closed.append(ClosedWindow(window.id, record, reason))
            self._remove(slot, window)
            return
        record.parts = (Part(window.id, record.chunks),)
        record.shared = True
        self._ref(window.id, 1)
        self._plan.closed.append(ClosedWindow(self._instance_id(window), record, reason))
        window.record.revision += 1
        self._set_timer(slot, window, self._timer_of(window.record))

    def _instance_id(self, window: OpenWindow) -> str:
        """The id of the window that closes now: its own, or that of its next revision."""
        return f"{window.id.rpartition('/')[0]}/{window.record.revision}"

    def _remove(self, slot: Slot, window: OpenWindow) -> None:
        self._drafted[slot] = None
        if window.stored:
            self._plan.removed.append(window.id)

    def _ref(self, segment: str, change: int) -> None:
        self._plan.refs[segment] = self._plan.refs.get(segment, 0) + change

    def _advance(self, mark: int) -> None:
        """Move the watermark, and do what that makes due, in the order of due times and keys."""
        self._watermark = mark
        while self._timers.is_due(mark):
            for due_ms, (_, window_id, slot) in self._timers.take(mark):
                window = self._for_change(slot)
                if window is not None and window.id == window_id and window.due_ms == due_ms:
                    self._on_timer(slot, window)

    def _finish(self) -> Plan:
        plan = self._plan
        for window in self._drafted.values():
            if window is not None:
                self._cut_chunk(window)
                plan.puts[window.id] = window.record
                if not window.stored:
                    plan.opened.add(window.id)
        plan.watermark_ms = self._watermark
        return plan
