"""All that the store has of a partition's windows but their messages, seen at one moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.account import COUNTS, RESULT_COUNTS, Account, add_up
from sinfer.windows.attempts import Tries
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow, Part, WindowRecord, unpack_closed, unpack_record

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_META = (
    *COUNTS, *RESULT_COUNTS, "purged", "trimmed", "commits", "windows", "partitions", "source",
    "incarnation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is of a partition.

    Attributes:
        scope: the partition.
        account: where its messages are, as far as they were counted.
        meta: fields of the partition.
        opened, closed: open and closed windows by id.
        deadlines: open windows that beat closes.
        ready, leases, sealed: where closed windows are, with the time that belongs to it, ms: when
            they may be claimed, when the lease ends, and the end of the window.
        attempts, deaths: how often closed windows were tried, and how often their leases ran out,
            as that is stored; see ``tries``.
        aside: windows that were set aside, as they were noted.
        refs, held: shared segments: how many windows hold them, how many messages are in them.
        letters: dead letters in the store.
    """

    scope: Scope
    account: Account
    meta: Mapping[str, bytes]
    opened: Mapping[str, WindowRecord]
    closed: Mapping[str, ClosedWindow]
    deadlines: frozenset[str]
    ready: Mapping[str, int]
    leases: Mapping[str, int]
    sealed: Mapping[str, int]
    attempts: Mapping[str, bytes]
    deaths: Mapping[str, bytes]
    aside: Mapping[str, bytes]
    refs: Mapping[str, int]
    held: Mapping[str, int]
    letters: int

    @property
    def incarnation(self) -> str:
        """Which messages the partition reads; empty where that is not noted."""
        return self.meta.get("incarnation", b"").decode()

    @property
    def stranded(self) -> list[str]:
        """Closed windows that neither wait, nor are held by a worker, nor are set aside."""
        found = self.ready.keys() | self.leases.keys() | self.sealed.keys() | self.aside.keys()
        return sorted(self.closed.keys() - found)

    @property
    def without_record(self) -> list[str]:
        """Windows that an index names and of which nothing is known any more."""
        closed = self.ready.keys() | self.leases.keys() | self.sealed.keys() | self.aside.keys()
        return sorted((closed - self.closed.keys()) | (self.deadlines - self.opened.keys()))

    @property
    def unclosable(self) -> list[tuple[str, int]]:
        """Open windows that beat should close, and does not know of, with their deadlines."""
        return [
            (name, record.deadline_ms)
            for name, record in self.opened.items()
            if record.deadline_ms and name not in self.deadlines
        ]

    def tries(self, window_id: str) -> int:
        """How often a closed window was tried, deaths of its workers included."""
        counted = Tries.unpack(self.attempts.get(window_id, 0)).attempts
        return counted + int(self.deaths.get(window_id, 0))

    def holders(self) -> Counter[str]:
        """How many windows hold each shared segment."""
        holders = Counter(name for name in self.opened if name in self.held or name in self.refs)
        for window in self.closed.values():
            if window.shares_segments:
                holders.update([part.segment for part in window.parts])
        return holders

    @property
    def lost_letters(self) -> int:
        """Dead letters that should be in the store and are not."""
        purged, trimmed = (int(self.meta.get(name, 0)) for name in ("purged", "trimmed"))
        return max(0, self.account.dead - purged - trimmed - self.letters)

    def parts(self) -> Iterator[tuple[str, Part]]:
        """The segments of all windows, by the ids of the windows."""
        for name, record in self.opened.items():
            for part in record.parts or ([Part(name, record.chunks)] if record.chunks else []):
                yield name, part
        for name, window in self.closed.items():
            for part in window.parts:
                yield name, part


async def snapshot(store: Store, scope: Scope) -> Snapshot:
    """Read a partition; the cost grows with its windows."""
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hmget(keys.meta, _META)
    for name in (keys.open, keys.closed, keys.held, keys.refs, keys.aside):
        pipeline.hgetall(name)
    pipeline.hgetall(keys.attempts)
    pipeline.hgetall(keys.deaths)
    pipeline.zrange(keys.deadlines, 0, -1)
    for name in (keys.ready, keys.leases, keys.sealed):
        pipeline.zrange(name, 0, -1, withscores=True)
    pipeline.xlen(keys.dead)
    answers = await store.ask(pipeline.execute())
    fields, opened, closed, held, refs, aside, attempts, deaths, *indexes, letters = answers
    deadlines, *places = indexes
    ready, leases, sealed = ({n.decode(): int(ms) for n, ms in place} for place in places)
    return Snapshot(
        scope,
        add_up(fields[: len(COUNTS) + len(RESULT_COUNTS)], opened, closed, held),
        _known(_META, fields),
        {name.decode(): unpack_record(blob) for name, blob in opened.items()},
        {name.decode(): unpack_closed(name, value) for name, value in closed.items()},
        frozenset(name.decode() for name in deadlines),
        ready,
        leases,
        sealed,
        {name.decode(): number for name, number in attempts.items()},
        {name.decode(): number for name, number in deaths.items()},
        {name.decode(): value for name, value in aside.items()},
        {name.decode(): int(number) for name, number in refs.items()},
        {name.decode(): int(number) for name, number in held.items()},
        int(letters),
    )


def _known(names: Sequence[str], fields: Sequence[bytes | None]) -> dict[str, bytes]:
    pairs = zip(names, fields, strict=True)
    return {name: value for name, value in pairs if value is not None}
