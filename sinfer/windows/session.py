"""Planner for session windows: items less than a gap apart, merged when an item bridges them."""

from __future__ import annotations

from sinfer.units import to_ms
from sinfer.windows.ids import count_window_id
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Held, Planner, Slot
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

    def _slot(self, window_id: str, record: WindowRecord) -> Slot:
        return window_id

    def _prepare(self) -> None:
        self._gap = to_ms(self.spec.gap)
        self._of_key: dict[str, set[str]] = {}

    def _keep(self, slot: Slot, held: Held) -> None:
        super()._keep(slot, held)
        self._of_key.setdefault(held.record.key, set()).add(held.id)

    def _drop(self, slot: Slot, held: Held) -> None:
        super()._drop(slot, held)
        ids = self._of_key[held.record.key]
        ids.discard(held.id)
        if not ids:
            del self._of_key[held.record.key]

    def _begin(self) -> None:
        super()._begin()
        self._draft_ids: dict[str, set[str]] = {}

    def _on_due(self, slot: Slot, held: Held) -> None:
        self._close(slot, held, "gap")

    def _sessions(self, key: str) -> list[Held]:
        """The open sessions of a key in this plan."""
        ids = self._of_key.get(key, set()) | self._draft_ids.get(key, set())
        held = [self._hold(session_id) for session_id in sorted(ids)]
        return [session for session in held if session is not None]

    def _add(self, entry: Entry, time_ms: int, now_ms: int) -> None:
        end = time_ms + self._gap
        joined = [
            session
            for session in self._sessions(entry.key)
            if session.record.start_ms is not None
            and session.record.end_ms is not None
            and time_ms < session.record.end_ms
            and session.record.start_ms < end
        ]
        if not joined and self._follows_watermark and self._mark is not None and self._mark >= end:
            self._plan.late.append(entry.message)
            return
        if joined:
            session = self._merge(joined)
        else:
            seq = entry.message.stream_seq
            session_id = count_window_id(self._prefix, entry.key, seq)
            record = WindowRecord(entry.key, time_ms, end, seq, seq)
            session = self._open(session_id, session_id, record, now_ms)
            self._draft_ids.setdefault(entry.key, set()).add(session_id)
        self._extend(session, time_ms, end, now_ms)
        self._append(session, entry.message)
        self._trigger(session.id, session, entry)

    def _extend(self, session: Held, time_ms: int, end: int, now_ms: int) -> None:
        record = session.record
        record.start_ms = min(time_ms, record.start_ms if record.start_ms is not None else time_ms)
        record.end_ms = max(end, record.end_ms if record.end_ms is not None else end)
        if self._follows_watermark:
            if session.due_ms != record.end_ms:
                session.due_ms = record.end_ms
                self._note_due(session.id, session)
        else:
            waits_until = record.deadline_ms if self._max_wait is not None else record.end_ms
            record.deadline_ms = min(record.end_ms, waits_until or record.end_ms)

    def _merge(self, sessions: list[Held]) -> Held:
        """Make one session of several; the one with the earliest message gives the id."""
        sessions.sort(key=lambda session: session.record.first_seq)
        first, *others = sessions
        for other in others:
            self._seal(first)
            self._seal(other)
            into, merged = first.record, other.record
            into.parts = self._parts(first) + self._parts(other)
            into.last_seq = max(into.last_seq, merged.last_seq)
            into.count += merged.count
            into.bytes += merged.bytes
            into.start_ms = min(into.start_ms or 0, merged.start_ms or 0)
            into.end_ms = max(into.end_ms or 0, merged.end_ms or 0)
            if self._max_wait is not None:
                into.deadline_ms = min(into.deadline_ms, merged.deadline_ms)
            self._remove(other.id, other)
        return first

    def _parts(self, session: Held) -> list[Part]:
        return session.record.parts or [Part(session.id, session.record.chunks)]

    def _seal(self, held: Held) -> None:
        """As usual; a merged session goes on in a segment behind those that it was merged of."""
        record = held.record
        if not record.parts or not held.fresh:
            super()._seal(held)
            return
        last = record.parts[-1]
        if last.segment.startswith(f"{held.id}~"):
            tail = Part(last.segment, last.chunks + 1)
            record.parts = [*record.parts[:-1], tail]
        else:
            tail = Part(f"{held.id}~{len(record.parts)}", 1)
            record.parts = [*record.parts, tail]
        self._plan.appends.append((tail.segment, held.fresh))
        held.fresh = []
