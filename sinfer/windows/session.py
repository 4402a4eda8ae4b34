"""Planner for session windows: items less than a gap apart, merged when an item bridges them."""

from __future__ import annotations

from sinfer.config.units import to_ms
from sinfer.windows.ids import count_window_id
from sinfer.windows.open_window import OpenWindow, Slot
from sinfer.windows.plan import Append, Entry
from sinfer.windows.planner import Planner
from sinfer.windows.records import Part, WindowRecord
from sinfer.windows.specs import SessionWindow

# A session is [first item, last item + gap). An item at t brings [t, t + gap); sessions that
# overlap it become one:
#
#     a: |----|          an item here bridges a and b:   |----|
#     b:         |----|                                merged: |------------|


class SessionPlanner(Planner):
    """Sessions of one key. A slot is the id of a session; ``_of_key`` finds those of a key."""

    spec: SessionWindow
    timer_reason = "gap"

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        return window_id

    def _prepare(self) -> None:
        self._gap = to_ms(self.spec.gap)
        self._of_key: dict[str, set[str]] = {}

    def _keep(self, slot: Slot, window: OpenWindow) -> None:
        super()._keep(slot, window)
        self._of_key.setdefault(window.record.key, set()).add(window.id)

    def _drop(self, slot: Slot, window: OpenWindow) -> None:
        super()._drop(slot, window)
        ids = self._of_key[window.record.key]
        ids.discard(window.id)
        if not ids:
            del self._of_key[window.record.key]

    def _begin(self) -> None:
        super()._begin()
        self._draft_ids: dict[str, set[str]] = {}

    # --- planning ---

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        key, end = entry.key, time_ms + self._gap
        joined = self._joined(key, time_ms, end)
        if joined:
            session = self._merge(joined)
        elif self._follows_watermark and self._watermark is not None and self._watermark >= end:
            self._plan.late.append(entry.message)
            return
        else:
            seq = entry.message.stream_seq
            session_id = count_window_id(self._prefix, key, seq)
            record = WindowRecord(key, time_ms, end, seq, seq)
            session = self._open(session_id, session_id, record, now_ms)
            self._draft_ids.setdefault(key, set()).add(session_id)
        self._extend(session, time_ms, end)
        self._put(session, entry.message)
        self._trigger(session.id, session, entry)

    def _joined(self, key: str, start: int, end: int) -> list[OpenWindow]:
        """The open sessions of a key that overlap an interval, the earliest message first."""
        joined = []
        for session_id in self._of_key.get(key, set()) | self._draft_ids.get(key, set()):
            window = self._as_it_is(session_id)
            if window is None or window.record.start_ms is None or window.record.end_ms is None:
                continue
            if start < window.record.end_ms and window.record.start_ms < end:
                joined.append(session_id)
        sessions = [session for session in map(self._for_change, joined) if session is not None]
        return sorted(sessions, key=lambda session: (session.record.first_seq, session.id))

    def _merge(self, sessions: list[OpenWindow]) -> OpenWindow:
        """Make one session of several; the one with the earliest message gives the id."""
        first, *others = sessions
        for other in others:
            self._cut_chunk(first)
            self._cut_chunk(other)
            into, merged = first.record, other.record
            into.parts = self._parts(first) + self._parts(other)
            into.last_seq = max(into.last_seq, merged.last_seq)
            into.count += merged.count
            into.bytes += merged.bytes
            into.start_ms = min(into.start_ms or 0, merged.start_ms or 0)
            into.end_ms = max(into.end_ms or 0, merged.end_ms or 0)
            if merged.deadline_ms and not 0 < into.deadline_ms <= merged.deadline_ms:
                into.deadline_ms = merged.deadline_ms
                into.deadline_reason = merged.deadline_reason
            if merged.first_ms and not 0 < into.first_ms <= merged.first_ms:
                into.first_ms = merged.first_ms
            self._remove(other.id, other)
        return first

    def _extend(self, session: OpenWindow, time_ms: int, end: int) -> None:
        record = session.record
        record.start_ms = min(time_ms, time_ms if record.start_ms is None else record.start_ms)
        record.end_ms = max(end, end if record.end_ms is None else record.end_ms)
        if self._follows_watermark:
            if session.due_ms != record.end_ms:
                self._set_timer(session.id, session, record.end_ms)
            return
        record.deadline_ms, record.deadline_reason = record.end_ms, "gap"
        if self._max_wait is not None and record.start_ms + self._max_wait < record.end_ms:
            record.deadline_ms, record.deadline_reason = record.start_ms + self._max_wait, "time"

    # --- segments ---

    def _parts(self, session: OpenWindow) -> tuple[Part, ...]:
        return session.record.parts or (Part(session.id, session.record.chunks),)

    def _cut_chunk(self, window: OpenWindow) -> None:
        """As usual; a merged session goes on in a segment behind those that it was merged of."""
        record = window.record
        if not record.parts or not window.fresh:
            super()._cut_chunk(window)
            return
        last = record.parts[-1]
        if last.segment.startswith(f"{window.id}~"):
            tail = Part(last.segment, last.chunks + 1)
            record.parts = (*record.parts[:-1], tail)
        else:
            tail = Part(f"{window.id}~{len(record.parts)}", 1)
            record.parts = (*record.parts, tail)
        self._plan.appends.append(Append(tail.segment, window.fresh, tail.chunks))
        window.fresh = None
