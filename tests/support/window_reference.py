"""What windows are, said a second time and as plainly as possible, to hold the real thing against.

The reference keeps every item it ever saw in plain lists and looks at all of them at each step. It
knows nothing of batches, segments, panes, plans or restarts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from sinfer.config.units import to_ms
from sinfer.types.message import Message
from sinfer.windows.ids import escape
from sinfer.windows.plan import Entry
from sinfer.windows.records import ClosedWindow
from sinfer.windows.specs import WindowSpec

PREFIX = "t/p/"

_adapter: TypeAdapter[WindowSpec] = TypeAdapter(WindowSpec)


def window_spec(**settings: Any) -> WindowSpec:
    """A window specification, as from a configuration."""
    return _adapter.validate_python(settings)


SPECS: dict[str, dict[str, Any]] = {
    "count": {"type": "count", "count": 3},
    "count, or bytes": {"type": "count", "count": 5, "max_bytes": 6},
    "count, or wait": {"type": "count", "count": 4, "max_wait": "30ms"},
    "tumbling": {"type": "tumbling", "size": "50ms"},
    "tumbling, or wait": {"type": "tumbling", "size": "50ms", "max_wait": "20ms"},
    "tumbling by event time": {"type": "tumbling", "size": "50ms", "time": "event"},
    "tumbling by event time, in parts": {
        "type": "tumbling", "size": "100ms", "time": "event", "max_count": 3, "max_bytes": 7,
        "max_out_of_orderness": "20ms",
    },
    "tumbling, fired again": {
        "type": "tumbling", "size": "50ms", "time": "event", "late": "update",
        "allowed_lateness": "40ms", "max_out_of_orderness": "10ms",
    },
    "sliding": {"type": "sliding", "size": "60ms", "slide": "20ms"},
    "sliding by event time": {
        "type": "sliding", "size": "50ms", "slide": "20ms", "time": "event",
        "max_out_of_orderness": "15ms",
    },
    "sliding, fired again": {
        "type": "sliding", "size": "50ms", "slide": "20ms", "time": "event", "late": "update",
        "allowed_lateness": "45ms",
    },
    "session": {"type": "session", "gap": "20ms"},
    "session, or wait": {"type": "session", "gap": "20ms", "max_wait": "35ms"},
    "session by event time": {
        "type": "session", "gap": "20ms", "time": "event", "max_out_of_orderness": "30ms",
    },
    "session by event time, in parts": {
        "type": "session", "gap": "20ms", "time": "event", "max_out_of_orderness": "30ms",
        "max_count": 4, "max_wait": "25ms",
    },
}  # fmt: skip
"""A window of every type, with and without each trigger and notion of time."""


class Item(NamedTuple):
    """One item of a history."""

    seq: int
    key: str
    time_ms: int
    size: int = 1

    @property
    def entry(self) -> Entry:
        return Entry(Message(b"x" * self.size, stream_seq=self.seq), self.key, self.time_ms)


class Fired(NamedTuple):
    """One closed window, as it is compared."""

    id: str
    reason: str
    start: int | None
    end: int | None
    revision: int
    members: tuple[int, ...]


def fired(window: ClosedWindow, messages: list[Message]) -> Fired:
    """A closed window of the real thing in the form that is compared."""
    record = window.record
    assert record.count == len(messages)
    assert record.bytes == sum(len(message.data) for message in messages)
    members = tuple(sorted(message.stream_seq for message in messages))
    assert (record.first_seq, record.last_seq) == (members[0], members[-1])
    return Fired(window.id, window.reason, record.start_ms, record.end_ms, record.revision, members)


@dataclass
class OpenWindow:
    """A window that takes items."""

    key: str
    start: int | None
    end: int | None
    items: list[Item] = field(default_factory=list)
    deadline: int | None = None
    deadline_reason: str = "time"

    @property
    def first_seq(self) -> int:
        return min(item.seq for item in self.items)

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(sorted(item.seq for item in self.items))


class Reference:
    """The windows of one partition."""

    def __init__(self, spec: WindowSpec, prefix: str = PREFIX) -> None:
        self.spec = spec
        self.prefix = prefix
        self.watermark: int | None = None
        self.open: list[OpenWindow] = []
        self.fired: list[Fired] = []
        self._overdue: list[OpenWindow] = []  # past their deadline, and not closed by beat yet
        self.late: list[int] = []
        self._revisions: dict[tuple[str, int], int] = {}
        self._seen: list[Item] = []  # items of sliding windows and of those that may fire again
        self._event = spec.time == "event"
        self._lateness = to_ms(spec.allowed_lateness) if spec.late == "update" else 0
        self._wait = None if spec.max_wait is None else to_ms(spec.max_wait)
        self.keeps_content = spec.type == "sliding" or spec.late == "update"

    # --- what happens ---

    def take(self, items: list[Item], now: int) -> None:
        """A batch comes; batches only matter in processing time, where they come at one time."""
        self.notice(now)
        if self._event:
            for item in items:
                self._put(item, now)
                self._move(item.time_ms - to_ms(self.spec.max_out_of_orderness), "time")
            return
        if self.spec.type == "sliding":
            now = now if self.watermark is None else max(now, self.watermark)
            self._move(now, "time")
        for item in items:
            self._put(item._replace(time_ms=now), now)

    def notice(self, now: int) -> None:
        """The ingestor looks at the clock: windows past their deadline take no more items."""
        self._overdue += [w for w in self.open if w.deadline is not None and w.deadline <= now]
        self.open = [w for w in self.open if w.deadline is None or w.deadline > now]

    def restart(self) -> None:
        """A new ingestor, which does not know which windows the last one thought overdue."""
        if self.spec.type != "session":  # there is one window at a place; the newer one counts
            places = {(window.key, window.start) for window in self.open}
            back = [w for w in self._overdue if (w.key, w.start) not in places]
            back = list({(w.key, w.start): w for w in back}.values())
        else:
            back = list(self._overdue)
        self._overdue = [w for w in self._overdue if all(w is not other for other in back)]
        self.open += back

    def tick(self, now: int) -> None:
        """Beat looks at the clock."""
        due = [w for w in self.open if w.deadline is not None and w.deadline <= now]
        for window in self._overdue + due:
            self._fire(window, window.deadline_reason)
        self._overdue.clear()

    def close_all(self, reason: str) -> None:
        """The source is idle, or is drained."""
        if self.keeps_content:
            ends = [end for item in self._seen for _, end in self._bounds(item) if self._ahead(end)]
            if ends:
                self._move(max(ends), reason)
            if reason == "drain" and self._seen:
                last = max(end for item in self._seen for _, end in self._bounds(item))
                self._move(last + self._lateness, reason)
        else:
            # With early triggers, or without a watermark, parts of windows may follow later.
            whole = self._event and self.spec.type == "tumbling" and not self._early
            ends = [window.end for window in self.open if window.end is not None]
            for window in sorted(self.open, key=lambda w: (w.end or 0, w.key, w.first_seq)):
                self._fire(window, reason)
            if whole and ends:
                self._move(max(ends), reason)
        if reason == "drain":
            self._seen.clear()

    @property
    def all_open(self) -> list[OpenWindow]:
        """The windows that did not close yet."""
        return self.open + self._overdue

    # --- the rules ---

    @property
    def _early(self) -> bool:
        return self.spec.has_early_triggers

    def _ahead(self, end: int) -> bool:
        return self.watermark is None or end > self.watermark

    def _bounds(self, item: Item) -> list[tuple[int, int]]:
        """All aligned windows that a time is in."""
        spec = self.spec
        assert spec.type in ("tumbling", "sliding")
        size = to_ms(spec.size)
        slide = to_ms(spec.slide) if spec.type == "sliding" else size
        last = item.time_ms // slide * slide
        starts = [last - n * slide for n in range(size // slide + 1)]
        return sorted((s, s + size) for s in starts if s <= item.time_ms < s + size)

    def _put(self, item: Item, now: int) -> None:
        if self.spec.type == "count":
            self._put_in_one(item, now, None, None)
        elif self.spec.type == "session":
            self._put_in_session(item, now)
        elif self.keeps_content:
            self._put_in_all(item)
        else:
            [(start, end)] = self._bounds(item)
            if self._event and not self._ahead(end):
                self.late.append(item.seq)
            else:
                self._put_in_one(item, now, start, end)

    def _put_in_one(self, item: Item, now: int, start: int | None, end: int | None) -> None:
        for window in self.open:
            if (window.key, window.start) == (item.key, start):
                break
        else:
            window = OpenWindow(item.key, start, end, deadline=None if self._event else end)
            if self._wait is not None:
                window.deadline = min(now + self._wait, window.deadline or now + self._wait)
            self.open.append(window)
        window.items.append(item)
        self._trigger(window)

    def _put_in_session(self, item: Item, now: int) -> None:
        gap = to_ms(self.spec.gap)  # type: ignore[union-attr]
        start, end = item.time_ms, item.time_ms + gap
        wait_until = None if self._wait is None else now + self._wait
        session = OpenWindow(item.key, start, end, [item], wait_until if self._event else None)
        joined = [
            window
            for window in self.open
            if window.key == item.key and start < (window.end or 0) and (window.start or 0) < end
        ]
        if self._event and not joined and not self._ahead(end):
            self.late.append(item.seq)
            return
        for other in joined:
            self.open.remove(other)
            session.start = min(session.start or 0, other.start or 0)
            session.end = max(session.end or 0, other.end or 0)
            session.items += other.items
            if self._event and session.deadline is not None:
                session.deadline = min(session.deadline, other.deadline or 0)
        if joined and self._event and wait_until is not None:
            session.deadline = min(other.deadline or 0 for other in joined)
        if not self._event:
            session.deadline, session.deadline_reason = session.end, "gap"
            if self._wait is not None and (session.start or 0) + self._wait < (session.end or 0):
                session.deadline = (session.start or 0) + self._wait
                session.deadline_reason = "time"
        self.open.append(session)
        self._trigger(session)

    def _put_in_all(self, item: Item) -> None:
        """Windows that share items, or fire again: their content is looked up when they fire."""
        ends = [end for _, end in self._bounds(item)]
        if not self._ahead(max(ends) + self._lateness):
            self.late.append(item.seq)
            return
        self._seen.append(item)
        for end in ends:
            if not self._ahead(end) and self._ahead(end + self._lateness):
                self._fire_content(item.key, end, "time")

    def _trigger(self, window: OpenWindow) -> None:
        spec = self.spec
        count = spec.count if spec.type == "count" else spec.max_count
        if count is not None and len(window.items) >= count:
            self._fire(window, "count")
        elif spec.max_bytes is not None and sum(i.size for i in window.items) >= spec.max_bytes:
            self._fire(window, "bytes")

    def _move(self, mark: int, reason: str) -> None:
        """The watermark moves forward, and windows end in the order of their ends."""
        if self.watermark is not None and mark <= self.watermark:
            return
        if self.keeps_content:
            ended = {
                (end, item.key)
                for item in self._seen
                for _, end in self._bounds(item)
                if self._ahead(end) and end <= mark
            }
            for end, key in sorted(ended):
                self._fire_content(key, end, reason)
        else:
            ended_windows = [w for w in self.open if w.end is not None and w.end <= mark]
            for window in sorted(ended_windows, key=lambda w: (w.end, w.key, self._id(w))):
                self._fire(window, "gap" if self.spec.type == "session" else reason)
        self.watermark = mark

    # --- firing ---

    def _id(self, window: OpenWindow) -> str:
        base = f"{self.prefix}{escape(window.key)}"
        if self.spec.type in ("count", "session"):
            return f"{base}/{window.first_seq}"
        part = f"@{window.first_seq}" if self._early or not self._event else ""
        return f"{base}/{window.start}{part}/0"

    def _fire(self, window: OpenWindow, reason: str) -> None:
        self.open = [other for other in self.open if other is not window]
        self.fired.append(
            Fired(self._id(window), reason, window.start, window.end, 0, window.members)
        )

    def _fire_content(self, key: str, end: int, reason: str) -> None:
        """Fire an aligned window with everything it holds."""
        inside = [i for i in self._seen if i.key == key and end in [e for _, e in self._bounds(i)]]
        start = end - to_ms(self.spec.size)  # type: ignore[union-attr]
        revision = self._revisions.get((key, end), 0)
        self._revisions[key, end] = revision + 1
        members = tuple(sorted(item.seq for item in inside))
        window_id = f"{self.prefix}{escape(key)}/{start}/{revision}"
        self.fired.append(Fired(window_id, reason, start, end, revision, members))
