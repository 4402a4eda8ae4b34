"""Planner for sliding windows, which share their messages: each is stored once, in a pane.

Panes are cut wherever a window begins or ends, so that every window is a run of whole panes
(Li et al., "No pane, no gain", SIGMOD Record 34(1), 2005). With size 5 and slide 2:

    windows   [0 . . . . 5)
                  [2 . . . . 7)
                      [4 . . . . 9)
    panes      0 1|2 3|4|5|6|7|8        cut at multiples of 2, and at multiples of 2 plus 5 % 2
"""

from __future__ import annotations

from collections.abc import Iterator

from sinfer.config.units import to_ms
from sinfer.windows.ids import time_window_id
from sinfer.windows.open_window import OpenWindow, Slot
from sinfer.windows.plan import Entry, Plan
from sinfer.windows.planner import Planner
from sinfer.windows.records import ClosedWindow, Part, WindowRecord
from sinfer.windows.specs import SlidingWindow
from sinfer.windows.timers import Timers
from sinfer.windows.window import CloseReason

_PANE, _FIRED = 0, 1


class SlidingPlanner(Planner):
    """Windows ``[n·slide, n·slide + size)`` of one key.

    Slots are ``(key, _PANE, start)`` for panes and, with ``late: update``, ``(key, _FIRED, end)``
    for windows that fired and may fire again. In processing time the clock is the watermark.
    """

    spec: SlidingWindow

    def _prepare(self) -> None:
        self._size = to_ms(self.spec.size)
        self._slide = to_ms(self.spec.slide)
        self._cut = self._size % self._slide
        self._follows_watermark = True
        self._shares = True
        self._ending = Timers()  # keys by the ends of windows that their panes are part of

    # --- geometry ---

    def _pane(self, time_ms: int) -> tuple[int, int]:
        """Bounds of the pane that holds a time."""
        base = time_ms - time_ms % self._slide
        cut = base + self._cut
        if time_ms < cut:
            return base, cut
        return cut, base + self._slide

    def _ends(self, start: int, end: int) -> range:
        """Ends of the windows that contain a pane."""
        first = -((self._size - end) // self._slide) * self._slide
        last = start - start % self._slide
        return range(first + self._size, last + self._size + 1, self._slide)

    def _panes_of(self, window_end: int) -> Iterator[int]:
        """Starts of the panes of a window."""
        start = window_end - self._size
        while start < window_end:
            yield start
            start = self._pane(start)[1]

    # --- state ---

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        if record.revision:
            return record.key, _FIRED, record.end_ms
        return record.key, _PANE, record.start_ms

    def _timer_of(self, record: WindowRecord) -> int | None:
        """When a pane is of no use any more, or a fired window can no longer fire again."""
        if record.start_ms is None or record.end_ms is None:
            return None
        last = record.end_ms
        if not record.revision:
            last = self._ends(record.start_ms, record.end_ms)[-1]
        return last + self._lateness

    def _keep(self, slot: Slot, window: OpenWindow) -> None:
        super()._keep(slot, window)
        for end in self._open_ends(window, self.watermark_ms):
            self._ending.keep(end, window.record.key)

    def _drop(self, slot: Slot, window: OpenWindow) -> None:
        super()._drop(slot, window)
        for end in self._open_ends(window, self.watermark_ms):
            self._ending.drop(end, window.record.key)

    def _open_ends(self, window: OpenWindow, mark: int | None) -> list[int]:
        """Ends of the windows that a pane is part of and that have not fired."""
        record = window.record
        if record.revision or record.start_ms is None or record.end_ms is None:
            return []
        ends = self._ends(record.start_ms, record.end_ms)
        return [end for end in ends if mark is None or end > mark]

    def apply(self, plan: Plan) -> None:
        super().apply(plan)
        if plan.watermark_ms is not None:
            self._ending.drop_until(plan.watermark_ms)
        self._ending.begin()

    @property
    def next_deadline_ms(self) -> int | None:
        dues = [due for due in (self._ending.first, self._timers.first) if due is not None]
        return min(dues, default=None)

    # --- planning ---

    def _begin(self) -> None:
        super()._begin()
        self._ending.begin()

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        start, end = self._pane(time_ms)
        ends = self._ends(start, end)
        mark = self._watermark
        if mark is not None and ends[-1] + self._lateness <= mark:
            self._plan.late.append(entry.message)
            return
        slot = (entry.key, _PANE, start)
        pane = self._for_change(slot)
        if pane is None:
            seq = entry.message.stream_seq
            pane_id = f"{time_window_id(self._prefix, entry.key, start)}/pane"
            pane = self._open(slot, pane_id, WindowRecord(entry.key, start, end, seq, seq), now_ms)
            for window_end in self._open_ends(pane, mark):
                self._ending.note(window_end, entry.key)
        self._put(pane, entry.message)
        if self._updates and mark is not None:
            for window_end in ends:
                if window_end <= mark < window_end + self._lateness:
                    self._fire(window_end, entry.key, "time")

    def _advance(self, mark: int) -> None:
        self._fire_until(mark, "time")
        super()._advance(mark)

    def _fire_until(self, mark: int, reason: CloseReason) -> None:
        while self._ending.is_due(mark):
            for end, key in self._ending.take(mark):
                self._fire(end, key, reason)

    def _fire(self, window_end: int, key: str, reason: CloseReason) -> None:
        """Close a window: the panes it is made of stay for the windows that follow."""
        window = WindowRecord(key, window_end - self._size, window_end, 0, 0, shared=True)
        parts: list[Part] = []
        version = self._origin.version
        for start in self._panes_of(window_end):
            pane = self._as_it_is((key, _PANE, start))
            if pane is None:
                continue
            self._cut_chunk(pane)
            record = pane.record
            version = version if parts else record.version
            parts.append(Part(pane.id, record.chunks))
            window.first_seq = min(window.first_seq or record.first_seq, record.first_seq)
            window.last_seq = max(window.last_seq, record.last_seq)
            window.count += record.count
            window.bytes += record.bytes
            self._ref(pane.id, 1)
        window.parts = tuple(parts)
        base = time_window_id(self._prefix, key, window_end - self._size)
        self._mark_origin(window)
        window.version = version
        if self._updates:
            self._note_firing(base, window)
        self._plan.closed.append(ClosedWindow(f"{base}/{window.revision}", window, reason))

    def _note_firing(self, base: str, window: WindowRecord) -> None:
        """Give a window that fires its revision, noted for the next time, and the incarnation that
        it fired under before."""
        slot = (window.key, _FIRED, window.end_ms)
        fired = self._for_change(slot)
        if fired is None:
            marker = WindowRecord(
                window.key, window.start_ms, window.end_ms, window.first_seq, 0, revision=1
            )
            self._mark_origin(marker)
            fired = OpenWindow(f"{base}/fired", marker, stored=False)
            self._drafted[slot] = fired
            self._set_timer(slot, fired, self._timer_of(marker))
            return
        window.revision = fired.record.revision
        window.incarnation = fired.record.incarnation
        fired.record.revision += 1

    def _on_timer(self, slot: Slot, window: OpenWindow) -> None:
        """A pane, or the note of a fired window, is of no use any more."""
        if not window.record.revision:
            self._cut_chunk(window)
            self._ref(window.id, -1)
        self._remove(slot, window)

    def close_all(self, reason: CloseReason) -> Plan:
        self._begin()
        last = self._ending.last
        if last is not None and (self._watermark is None or last > self._watermark):
            self._fire_until(last, reason)
            self._advance(last)
        if reason == "drain":
            self._purge()
        return self._finish()
