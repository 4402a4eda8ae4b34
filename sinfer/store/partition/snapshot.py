"""A partition as the store has it at one moment: the one thing that operations read of it.

Its numbers and notes are always there, and cost the same however many windows there are. Windows
are read when they are asked for, in the same step. Their messages are in ``store.work.segments``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sinfer.store.boards.unavailable import Outage, outages_in
from sinfer.store.format import FORMAT_FIELD, check_format
from sinfer.store.keys import (
    CONFIG_FIELD,
    INCARNATION_FIELD,
    STANDSTILL_FIELD,
    VERSION_FIELD,
    PartitionKeys,
)  # fmt: skip
from sinfer.store.partition.account import COUNTS, OTHER_COUNTS, Account, Count, add_up
from sinfer.store.partition.backlog import oldest_ms
from sinfer.store.partition.gone_messages import gone_in
from sinfer.store.partition.snapshot_windows import SnapshotWindows
from sinfer.store.store_time import TIME_FIELDS, milliseconds, told
from sinfer.types.gone import Gone
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_ALL_COUNTS = (*COUNTS, *OTHER_COUNTS)
_META = (
    *_ALL_COUNTS, "purged", "trimmed", "commits", "windows", "partitions", "source", "watermark",
    "owner", "lease_until", "deaths", "hand", "drained", Count.OTHER_VERSION, CONFIG_FIELD,
    INCARNATION_FIELD, STANDSTILL_FIELD, VERSION_FIELD, FORMAT_FIELD,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of a partition.

    Attributes:
        open, closed: windows.
        aside, awaiting, waiting, leased: closed windows, by where they are: set aside, waiting for
            the watermark of their task, for a worker or the time of their next attempt, or leased.
        letters: dead letters.
        ledger: entries of the ledger.
    """

    open: int
    closed: int
    aside: int
    awaiting: int
    waiting: int
    leased: int
    letters: int
    ledger: int

    @property
    def stranded(self) -> int:
        """Closed windows that are in no index."""
        return max(0, self.closed - self.awaiting - self.waiting - self.leased - self.aside)


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """What there is of a partition.

    Attributes:
        scope: the partition.
        now_ms: its time.
        sizes: how much there is of it.
        meta: what is stored of it as a whole, field by field; for this room alone.
        outages: what its windows wait for.
        unreadable: closed windows whose records cannot be read, and why.
        gone: messages that nobody has any more, and that nobody has written off.
        written_off: how many others somebody has written off.
        unusable: why a worker cannot begin its windows; empty when it can.
        costly: why its windows cost several calls each; empty when they do not.
        waits_ms: how long the first of the windows that wait could have been taken by a worker.
        asked_windows: ``windows``, where these were asked for.
    """

    scope: Scope
    now_ms: int
    sizes: Sizes
    meta: Mapping[str, bytes]
    outages: list[Outage]
    unreadable: Mapping[str, str]
    gone: list[Gone]
    written_off: int
    unusable: str
    costly: str
    waits_ms: int
    asked_windows: SnapshotWindows | None = None

    @property
    def windows(self) -> SnapshotWindows:
        """The windows.

        Raises:
            LookupError: they were not asked for.
        """
        if self.asked_windows is None:
            raise LookupError("this snapshot was taken without windows")
        return self.asked_windows

    # --- reading ---

    @property
    def checkpoint(self) -> bytes | None:
        """How far it was read, see ``source.checkpoint``; None where that is not stored."""
        return self.meta.get("source")

    @property
    def incarnation(self) -> str:
        """Which messages it reads; empty where that is not noted."""
        return self._text(INCARNATION_FIELD)

    @property
    def version(self) -> str | None:
        """Of the pipeline that opens its windows, empty where it names none; None where none ever
        did."""
        return self._text(VERSION_FIELD) if VERSION_FIELD in self.meta else None

    @property
    def of_other_version(self) -> int:
        """Windows that were processed by another version than they were opened by."""
        return self._number(Count.OTHER_VERSION)

    @property
    def watermark_ms(self) -> int:
        """Its watermark; 0 where there is none."""
        return self._number("watermark")

    # --- its writer ---

    @property
    def writer(self) -> str:
        """Who writes it now; empty when nobody does."""
        return self._text("owner") if self._number("lease_until") > self.now_ms else ""

    @property
    def stall(self) -> str:
        """Why its source gives no more messages, as its writer noted."""
        return self._text(STANDSTILL_FIELD)

    @property
    def writer_deaths(self) -> int:
        """How many writers in a row ended without giving it back."""
        return self._number("deaths")

    @property
    def work_in_hand(self) -> str:
        """What the last of them had in hand."""
        return self._text("hand")

    def is_drained(self, since_ms: int) -> bool:
        """Whether nobody puts messages into it: its writer has stopped pulling and closed what was
        open, or there is none.

        Args:
            since_ms: when the drain was asked for, which tells it from earlier ones.
        """
        return self._number("drained") == since_ms or not self.writer

    # --- the account ---

    @property
    def counts(self) -> dict[str, int]:
        """Messages and results by what became of them; see ``Account``."""
        return {name: self._number(name) for name in _ALL_COUNTS}

    @property
    def account(self) -> Account:
        """Where its messages are, as far as they were counted. Needs the windows."""
        windows = self.windows
        return add_up(self.counts, windows.opened, windows.closed, windows.segment_sizes)

    @property
    def windows_done(self) -> int | None:
        """How many windows were done; None where an earlier version did not count them."""
        return self._number("windows") if "windows" in self.meta else None

    @property
    def letters_removed(self) -> int:
        """Dead letters that were purged, or removed by their retention."""
        return self._number("purged") + self._number("trimmed")

    @property
    def lost_letters(self) -> int:
        """Dead letters that should be in the store and are not."""
        return max(0, self._number("dead") - self.letters_removed - self.sizes.letters)

    def _number(self, field: str) -> int:
        return int(self.meta.get(field) or 0)

    def _text(self, field: str) -> str:
        return self.meta.get(field, b"").decode(errors="replace")


async def snapshot(store: Store, scope: Scope, *, windows: bool = False) -> PartitionSnapshot:
    """Read a partition, in one round trip.

    Args:
        store: the window store.
        scope: the partition.
        windows: its windows as well; the cost grows with their number.

    Raises:
        StoreError: a key is of another kind.
        FormatError: a newer version has written it.
        UnavailableError: Redis cannot be reached.
    """
    keys = PartitionKeys(scope)
    redis = store.for_large_answers if windows else store.redis
    pipeline = redis.pipeline(transaction=True)
    pipeline.time()
    pipeline.hmget(keys.meta, [*_META, *TIME_FIELDS])
    for name in (keys.open, keys.closed, keys.aside):
        pipeline.hlen(name)
    for name in (keys.awaiting, keys.ready, keys.leases):
        pipeline.zcard(name)
    for name in (keys.dead, keys.ledger):
        pipeline.xlen(name)
    for name in (keys.outages, keys.unreadable, keys.gone):
        pipeline.hgetall(name)
    pipeline.get(keys.unusable)
    pipeline.get(keys.costly)
    pipeline.zrange(keys.ready, 0, 0, withscores=True)
    more = SnapshotWindows.ask(pipeline, keys) if windows else 0
    answers = await store.ask(pipeline.execute())
    of_windows = answers[len(answers) - more :]
    clock, fields, *answers = answers[: len(answers) - more]
    sizes, (outages, unreadable, gone, *others) = answers[:8], answers[8:]
    unusable, costly, first = others
    now_ms = told(milliseconds(clock), *fields[len(_META) :])
    meta = _stored(fields)
    check_format(keys.meta, meta.get(FORMAT_FIELD))
    return PartitionSnapshot(
        scope,
        now_ms,
        Sizes(*sizes),
        meta,
        outages_in(outages),
        await _unreadable(store, keys, unreadable),
        *gone_in(gone),
        (unusable or b"").decode(errors="replace"),
        (costly or b"").decode(errors="replace"),
        oldest_ms(first, now_ms),
        SnapshotWindows.of(of_windows) if windows else None,
    )


def _stored(fields: list[Any]) -> dict[str, bytes]:
    pairs = zip(_META, fields[: len(_META)], strict=True)
    return {name: value for name, value in pairs if value is not None}


async def _unreadable(
    store: Store, keys: PartitionKeys, noted: Mapping[bytes, bytes]
) -> dict[str, str]:
    """What was noted of closed windows that cannot be read; for those that are gone, no longer."""
    if not noted:
        return {}
    values = await store.ask(store.redis.hmget(keys.closed, list(noted)))
    gone = [name for name, value in zip(noted, values, strict=True) if value is None]
    if gone:
        await store.ask(store.redis.hdel(keys.unreadable, *gone))
    return {
        name.decode(errors="replace"): why.decode(errors="replace")
        for name, why in sorted(noted.items())
        if name not in gone
    }
