"""Planner for count windows: one open window for each key."""

from __future__ import annotations

from sinfer.windows.ids import count_window_id
from sinfer.windows.open_window import Slot
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.records import WindowRecord
from sinfer.windows.specs import CountWindow


class CountPlanner(Planner):
    """Windows of so many items of one key."""

    spec: CountWindow

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        return record.key

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        key, message = entry.key, entry.message
        window = self._for_change(key)
        if window is None:
            seq = message.stream_seq
            window_id = count_window_id(self._prefix, key, seq)
            window = self._open(key, window_id, WindowRecord(key, None, None, seq, seq), now_ms)
        self._put(window, message)
        if window.record.count >= self.spec.count:
            self._close(key, window, "count")
        elif self._has_triggers:
            self._trigger(key, window, entry)
