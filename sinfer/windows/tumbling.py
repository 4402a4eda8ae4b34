"""Planners for tumbling and count windows: one open window for each key, or key and start."""

from __future__ import annotations

from sinfer.config.units import to_ms
from sinfer.windows.ids import count_window_id, time_window_id
from sinfer.windows.open_window import Held, Slot
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.records import WindowRecord
from sinfer.windows.specs import CountWindow, TumblingWindow


class CountPlanner(Planner):
    """Windows of so many items of one key."""

    spec: CountWindow

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        return record.key

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        key, message = entry.key, entry.message
        held = self._hold(key)
        if held is None:
            seq = message.stream_seq
            window_id = count_window_id(self._prefix, key, seq)
            held = self._open(key, window_id, WindowRecord(key, None, None, seq, seq), now_ms)
        held.append(message)
        if held.record.count >= self.spec.count:
            self._close(key, held, "count")
        else:
            self._trigger(key, held, entry)


class TumblingPlanner(Planner):
    """Windows ``[n·size, (n+1)·size)`` of one key."""

    spec: TumblingWindow

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        return record.key, record.start_ms

    def _prepare(self) -> None:
        self._size = to_ms(self.spec.size)
        self._in_parts = (
            not self._follows_watermark
            or self.spec.has_early_triggers
            or self._close_when is not None
        )

    def _rule_out(self, end_ms: int | None) -> None:
        if (
            not self._in_parts
            and end_ms is not None
            and (self._mark is None or end_ms > self._mark)
        ):
            self._advance(end_ms)

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        start = time_ms - time_ms % self._size
        end = start + self._size
        is_late = self._follows_watermark and self._mark is not None and self._mark >= end
        if is_late and not self._may_update(end):
            self._plan.late.append(entry.message)
            return
        slot = (entry.key, start)
        held = self._hold(slot)
        if held is None:
            held = self._open_window(slot, entry, start, now_ms)
        held.append(entry.message)
        if is_late:
            self._close(slot, held, self.due_reason)
        else:
            self._trigger(slot, held, entry)

    def _may_update(self, end: int) -> bool:
        """Whether a window that ended may fire once more."""
        return self._updates and (self._mark is None or self._mark < end + self._lateness)

    def _open_window(self, slot: Slot, entry: Entry, start: int, now_ms: int) -> Held:
        seq = entry.message.stream_seq
        base = time_window_id(self._prefix, entry.key, start, seq if self._in_parts else None)
        record = WindowRecord(entry.key, start, start + self._size, seq, seq)
        if not self._follows_watermark:
            record.deadline_ms = start + self._size
        return self._open(slot, f"{base}/0", record, now_ms)
