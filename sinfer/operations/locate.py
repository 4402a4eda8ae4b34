"""Finding a message: where in the system it is, or what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from sinfer.ingest.isolation import look_at
from sinfer.nats.subjects import EVERYTHING
from sinfer.products.pipeline import InferPipeline
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.ranges import RangeSet
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.history.ledger import (
    Finished,
    LedgerEntry,
    read_ledger,
)
from sinfer.store.partition.snapshot import PartitionSnapshot, snapshot
from sinfer.store.work.claim import Claim
from sinfer.store.work.claims import PartitionClaims
from sinfer.store.work.contents import unpack_members
from sinfer.store.work.segments import Segments
from sinfer.types.message import Message, unpack_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import (
    ClosedWindow,
    Part,
    WindowRecord,
    WindowState,
)

State = Literal[
    "open", "sealed", "closed", "leased", "set aside", "missing", "done", "dead", "filtered",
    "removed", "not fetched", "unknown",
]  # fmt: skip
"""``missing``: it should be in a window, and is gone from the store. ``removed``: the stream did
not have it any more when it would have been read."""


@dataclass(frozen=True, slots=True)
class Found:
    """One place where a message is; a message of sliding windows has several.

    Attributes:
        state: what it waits for, or how it ended.
        partition: the partition.
        window: id of its window; empty where it has none.
        attempts: how often the window was tried.
        due_ms: when the window is tried next, milliseconds since the epoch; 0 where that is open.
        done_ms: when it ended; 0 while it has not.
        sinks: which sinks have the results already.
        letter: id of the dead letter.
        text: what else there is to say.
        product: whose task it is.
        incarnation: of the source when it was read; empty where an earlier version read it.
    """

    state: State
    partition: str
    window: str = ""
    attempts: int = 0
    due_ms: int = 0
    done_ms: int = 0
    sinks: list[str] = field(default_factory=list)
    letter: str = ""
    text: str = ""
    product: str = ""
    incarnation: str = ""


class Finder:
    """Looks for messages of one partition.

    Args:
        store: the window store.
        scope: the partition.
    """

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._scope = scope
        self._segments = Segments(store, scope)

    async def unread(self, seq: int, *, is_in_stream: bool) -> tuple[State, str] | None:
        """Why a message was not read, or not yet; None where the partition was read up to it, or
        ahead to it."""
        blob = (await snapshot(self._store, self._scope)).checkpoint
        state = Checkpoint.decode(blob) if blob else Checkpoint("", 0)
        if not is_in_stream and seq in RangeSet(state.removed):
            subject = self._scope.partition
            unless = "" if subject == EVERYTHING else f", if it was one of {subject}"
            return "removed", f"removed by the stream's limits before it was read{unless}"
        if seq <= state.position or seq in RangeSet(state.ahead):
            return None
        return "not fetched", "" if is_in_stream else "and not in the stream"

    async def stream_created(self) -> str:
        """When the stream was made that was read, as its server writes it; empty for none."""
        blob = (await snapshot(self._store, self._scope)).checkpoint
        return Checkpoint.decode(blob).stream_created if blob else ""

    async def find(self, seq: int) -> list[Found]:
        """All places where a message is known to be, or to have ended.

        Args:
            seq: its stream sequence.
        """
        seen = await snapshot(self._store, self._scope, windows=True)
        found = await self._in_windows(seen, seq)
        dead_windows = set()
        wanted = LetterFilter(first_seq=seq, last_seq=seq)
        async for stored in DeadLetterStore(self._store).of_partition(self._scope, wanted):
            letter = stored.letter
            dead_windows.add(letter.window)
            found.append(
                Found(
                    "dead",
                    self._scope.partition,
                    letter.window,
                    letter.attempts,
                    done_ms=stored.stored_ms,
                    letter=stored.id,
                    text=f"{letter.stage}: {letter.error}",
                    incarnation=letter.incarnation,
                )
            )
        ended = [
            finished
            async for finished in read_ledger(self._store, self._scope)
            if finished.entry.first_seq <= seq <= finished.entry.last_seq
            and seq in finished.entry.sequences
        ]
        told = dead_windows
        for finished in ended:
            entry = finished.entry
            if entry.window in told:
                continue
            told.add(entry.window)  # earlier times of the same window say nothing new
            state, text = await self._end_of(finished, seq)
            found.append(
                Found(
                    state,
                    self._scope.partition,
                    entry.window,
                    entry.attempts,
                    done_ms=finished.done_ms,
                    sinks=list(entry.sinks or ()) if state == "done" else [],
                    text="; ".join(filter(None, (text, _about_sinks(entry, state)))),
                    incarnation=entry.incarnation,
                )
            )
        now = seen.incarnation
        return [
            replace(place, product=self._scope.product, text=_dated(place, now)) for place in found
        ]

    async def _end_of(self, finished: Finished, seq: int) -> tuple[State, str]:
        """How a message ended that has no dead letter, in a window that the ledger has."""
        entry = finished.entry
        if seq in unpack_members(entry.filtered):
            return "filtered", "preprocess filtered it out when its window was processed"
        if not entry.dead:
            return "done", ""
        if entry.dead == entry.count:
            return "dead", "its dead letter was removed; all of its window were given up"
        letters = DeadLetterStore(self._store).of_partition(
            self._scope, LetterFilter(window=entry.window)
        )
        explained = 0
        async for _ in letters:
            explained += 1
        async for other in read_ledger(self._store, self._scope):
            if other.entry.window == entry.window and other.entry.kind == "redrive":
                explained += other.entry.count
        doubt = f"{entry.dead} of its {entry.count} messages were given up"
        if explained >= entry.dead:
            return "done", f"{doubt}, and this is none of them"
        return "unknown", (
            f"{doubt}, and not all of their dead letters are there any more: whether this is one"
            " of them is not known"
        )

    async def _in_windows(self, seen: PartitionSnapshot, seq: int) -> list[Found]:
        found = []
        for window_id, record in seen.windows.opened.items():
            own = record.parts or (Part(window_id, record.chunks),)
            if await self._holds(record, own, seq):
                found.append(await self._open(window_id, record, own, seq))
        found += [
            await self._closed(seen, window, seq)
            for window in seen.windows.closed.values()
            if await self._holds(window.record, window.parts, seq)
        ]
        return found

    async def _open(
        self, window_id: str, record: WindowRecord, parts: Sequence[Part], seq: int
    ) -> Found:
        there = await self._is_there(parts, seq)
        return Found(
            WindowState.OPEN.value if there else "missing",
            self._scope.partition,
            window_id,
            due_ms=record.deadline_ms,
            text="" if there else _GONE,
            incarnation=record.incarnation,
        )

    async def _closed(self, seen: PartitionSnapshot, window: ClosedWindow, seq: int) -> Found:
        name = window.id
        state: State = "closed"
        text = _again(window)
        windows = seen.windows
        due_ms = windows.ready.get(name, 0)
        if name in windows.leases:
            state, due_ms = "leased", windows.leases[name]
        elif name in windows.awaiting:
            state = "sealed"
        elif name in windows.aside:
            state = "set aside"
            text = f"{windows.damage_of(name).reason}; see `sinfer windows rebuild`"
        if not await self._is_there(window.parts, seq):
            state, text = "missing", _GONE
        output = await PartitionClaims(self._store, self._scope).read_output(Claim(window, 0, 0))
        return Found(
            state,
            self._scope.partition,
            window.public_id,
            windows.tries(name),
            due_ms=due_ms,
            sinks=sorted(output.sinks),
            text=text,
            incarnation=window.record.incarnation,
        )

    async def _holds(self, record: WindowRecord, parts: Sequence[Part], seq: int) -> bool:
        """Whether a message is in a window, or should be."""
        if not record.first_seq <= seq <= record.last_seq:
            return False
        for part in parts:
            members = await self._segments.members(part.segment, part.chunks)
            if any(
                seq in unpack_members(packed)
                for place, packed in members.items()
                if place <= part.chunks
            ):
                return True
        return await self._is_there(parts, seq)

    async def _is_there(self, parts: Sequence[Part], seq: int) -> bool:
        for part in parts:
            for chunk in await self._segments.chunks(part.segment, part.chunks):
                try:
                    if any(m.stream_seq == seq for m in unpack_chunk(chunk)):
                        return True
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # a chunk that is gone, or cannot be read
        return False


_GONE = "it should be in this window, and is gone from the store; see `sinfer audit`"


def _dated(place: Found, now: str) -> str:
    """What there is to say, and whether it is about the messages that are read now."""
    if not now or place.incarnation in ("", now):
        return place.text
    told = f"read before the partition started over (incarnation {place.incarnation})"
    return f"{told}; {place.text}" if place.text else told


def _about_sinks(entry: LedgerEntry, state: State) -> str:
    if state != "done" or entry.sinks:
        return ""
    if entry.sinks is None:
        return "which sinks have its results was not noted"
    return "the window has no results"


def _again(window: ClosedWindow) -> str:
    found = window.record.reprocessing
    return "" if found is None else f"processed again ({found.kind})"


def _nowhere(seen: PartitionSnapshot, seq: int) -> tuple[State, str]:
    """What may have become of a message that the stream does not have."""
    for gone in seen.gone:
        if gone.first <= seq <= gone.last:
            return "missing", f"neither Redis nor the stream has it any more (gone: {gone})"
    return "unknown", (
        "the stream does not have it: it was read, or removed before that, or it was none of"
        " this partition; the ledger does not know it"
    )


async def untraceable(
    store: Store,
    scope: Scope,
    pipeline: InferPipeline[Any, Any],
    seq: int,
    message: Message | None,
) -> tuple[State, str]:
    """What may have become of a message up to which was read, and that nothing is stored of.

    Only what can be known is told: the product's code may have been another one then.

    Args:
        store: the window store.
        scope: the partition.
        pipeline: the product's code, made for the task.
        seq: its stream sequence.
        message: the message; None when the stream has it no more.
    """
    seen = await snapshot(store, scope, windows=True)
    if message is None:
        return _nowhere(seen, seq)
    account = seen.account
    removed = seen.letters_removed
    now_ms = message.timestamp_ns // 1_000_000
    prepared = await look_at(pipeline, message, now_ms, name=str(scope))
    if prepared.filtered and account.filtered:
        return "filtered", "preprocess filters it out, as the product's code is now"
    if prepared.dead:
        error = prepared.dead[0].error
        if removed:
            return "dead", f"as the code is now, and its dead letter was removed: {error}"
        return (
            "unknown",
            f"preprocess refuses it, as the code is now, but it has no letter: {error}",
        )
    may_be = []
    if account.late:
        may_be.append("dropped as late")
    if removed:
        may_be.append("given up, and its dead letter was removed")
    if _ended_unnoted(seen):
        may_be.append("done before the oldest window that the ledger still has")
    if pipeline.task.source.deliver != "all":
        may_be.append("from before the task began to read")
    if may_be:
        return "unknown", ", or ".join(may_be)
    return "missing", "it was read, and is nowhere; see `sinfer audit --deep`"


def _ended_unnoted(seen: PartitionSnapshot) -> bool:
    """Whether more windows ended than the ledger has."""
    return seen.windows_done is None or seen.sizes.ledger < seen.windows_done
