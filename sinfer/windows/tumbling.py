"""Planner for tumbling windows: one open window for each key and start."""

from __future__ import annotations

from sinfer.config.units import to_ms
from sinfer.windows.ids import time_window_id
from sinfer.windows.open_window import OpenWindow, Slot
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.records import WindowRecord
from sinfer.windows.specs import TumblingWindow


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
            and (self._watermark is None or end_ms > self._watermark)
        ):
            self._advance(end_ms)

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        start = time_ms - time_ms % self._size
        end = start + self._size
        is_late = self._follows_watermark and self._watermark is not None and self._watermark >= end
        if is_late and not self._may_update(end):
            self._plan.late.append(entry.message)
            return
        slot = (entry.key, start)
        window = self._for_change(slot)
        if window is None:
            window = self._open_window(slot, entry, start, now_ms)
        self._put(window, entry.message)
        if is_late:
            self._close(slot, window, self.timer_reason)
        else:
            self._trigger(slot, window, entry)

    def _may_update(self, end: int) -> bool:
        """Whether a window that ended may fire once more."""
        return self._updates and (self._watermark is None or self._watermark < end + self._lateness)

    def _open_window(self, slot: Slot, entry: Entry, start: int, now_ms: int) -> OpenWindow:
        seq = entry.message.stream_seq
        base = time_window_id(self._prefix, entry.key, start, seq if self._in_parts else None)
        record = WindowRecord(entry.key, start, start + self._size, seq, seq)
        if not self._follows_watermark:
            record.deadline_ms = start + self._size
        return self._open(slot, f"{base}/0", record, now_ms)
