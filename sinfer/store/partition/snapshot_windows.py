"""The windows of a partition in a snapshot: all that is stored of them but their messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from sinfer.store.keys import PartitionKeys
from sinfer.store.work.contents import Damage, unpack_aside
from sinfer.windows.attempts import EXCUSED, Attempts
from sinfer.windows.records import ClosedWindow, Part, WindowRecord, unpack_closed, unpack_record


@dataclass(frozen=True, slots=True)
class SnapshotWindows:
    """Windows that are not done, seen at one moment.

    Attributes:
        opened, closed: open and closed windows by id.
        deadlines: open windows that beat closes.
        ready, leases, awaiting: where closed windows are, with the time that belongs to it, ms:
            when they may be claimed, when the lease ends, and, of those that wait for the watermark
            of their task, the end of the window.
        attempts, deaths: how often closed windows were tried, and how often their leases ran out,
            as that is stored; see ``tries``.
        aside: windows that were set aside, as they were noted; see ``set_aside``.
        holders_noted: shared segments, and how many windows hold them as that is stored.
        segment_sizes: shared segments, and how many messages are in them.
    """

    opened: Mapping[str, WindowRecord]
    closed: Mapping[str, ClosedWindow]
    deadlines: frozenset[str]
    ready: Mapping[str, int]
    leases: Mapping[str, int]
    awaiting: Mapping[str, int]
    attempts: Mapping[str, bytes]
    deaths: Mapping[str, bytes]
    aside: Mapping[str, bytes]
    holders_noted: Mapping[str, int]
    segment_sizes: Mapping[str, int]

    @classmethod
    def ask(cls, pipeline: Any, keys: PartitionKeys) -> int:
        """Put the commands into a pipeline; returns how many these are."""
        hashes = (
            keys.open, keys.closed, keys.attempts, keys.deaths, keys.aside, keys.refs,
            keys.segment_sizes,
        )  # fmt: skip
        indexes = (keys.deadlines, keys.ready, keys.leases, keys.awaiting)
        for name in hashes:
            pipeline.hgetall(name)
        for name in indexes:
            pipeline.zrange(name, 0, -1, withscores=True)
        return len(hashes) + len(indexes)

    @classmethod
    def of(cls, answers: list[Any]) -> Self:
        """What the commands of ``ask`` were answered."""
        opened, closed, attempts, deaths, aside, refs, held, *indexes = answers
        deadlines, ready, leases, sealed = (
            {name.decode(): int(ms) for name, ms in index} for index in indexes
        )
        return cls(
            {name.decode(errors="replace"): unpack_record(blob) for name, blob in opened.items()},
            {name.decode(errors="replace"): unpack_closed(name, v) for name, v in closed.items()},
            frozenset(deadlines),
            ready,
            leases,
            sealed,
            {name.decode(): number for name, number in attempts.items()},
            {name.decode(): number for name, number in deaths.items()},
            {name.decode(): value for name, value in aside.items()},
            {name.decode(): int(number) for name, number in refs.items()},
            {name.decode(): int(number) for name, number in held.items()},
        )

    @property
    def stranded(self) -> list[str]:
        """Closed windows that neither wait, nor are held by a worker, nor are set aside."""
        return sorted(self.closed.keys() - self._placed())

    @property
    def without_record(self) -> list[str]:
        """Windows that an index names and of which nothing is known any more."""
        closed = self._placed() - self.closed.keys()
        return sorted(closed | (self.deadlines - self.opened.keys()))

    def _placed(self) -> set[str]:
        return {*self.ready, *self.leases, *self.awaiting, *self.aside}

    @property
    def unclosable(self) -> list[tuple[str, int]]:
        """Open windows that beat should close, and does not know of, with their deadlines."""
        return [
            (name, record.deadline_ms)
            for name, record in self.opened.items()
            if record.deadline_ms and name not in self.deadlines
        ]

    def set_aside(self) -> Iterator[tuple[ClosedWindow, int, Damage]]:
        """The windows that are set aside, since when (ms, by the store), and what is wrong."""
        for name, note in sorted(self.aside.items()):
            if name in self.closed:
                yield self.closed[name], *unpack_aside(note)

    def damage_of(self, window_id: str) -> Damage:
        """What is wrong with a window that is set aside."""
        return unpack_aside(self.aside[window_id])[1]

    def tries(self, window_id: str) -> int:
        """How often a closed window was tried, deaths of its workers included."""
        stored = self.attempts.get(window_id, 0), self.attempts.get(f"{EXCUSED}{window_id}", 0)
        return Attempts.stored(*stored).counted + int(self.deaths.get(window_id, 0))

    def holders(self) -> Counter[str]:
        """How many windows hold each shared segment."""
        shared = {*self.segment_sizes, *self.holders_noted}
        holders = Counter(name for name in self.opened if name in shared)
        for window in self.closed.values():
            if window.shares_segments:
                holders.update([part.segment for part in window.parts])
        return holders

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The segments of all windows, by the ids of the windows."""
        for name, record in self.opened.items():
            for part in record.parts or ((Part(name, record.chunks),) if record.chunks else ()):
                yield name, part
        for name, window in self.closed.items():
            for part in window.parts:
                yield name, part
