"""Finding a message: where in the system it is, or what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from sinfer.ingest.isolation import look_at
from sinfer.products.pipeline import InferPipeline
from sinfer.source.checkpoint import SourceState
from sinfer.source.ranges import RangeSet
from sinfer.store.connection import Store
from sinfer.store.dead_letters import DeadLetterStore, LetterFilter
from sinfer.store.keys import INCARNATION_FIELD, PartitionKeys
from sinfer.store.ledger import Finished, LedgerEntry, read_ledger, unpack_members
from sinfer.store.members import members_fields, read_members
from sinfer.store.set_aside import unpack_aside
from sinfer.store.snapshot import Snapshot, snapshot
from sinfer.types.message import Message, unpack_chunk
from sinfer.windows.attempts import Tries
from sinfer.windows.ids import Scope
from sinfer.windows.records import (
    ClosedWindow,
    Part,
    WindowRecord,
    WindowState,
    unpack_closed,
    unpack_record,
)

State = Literal[
    "open", "sealed", "closed", "leased", "set aside", "missing", "done", "dead", "filtered",
    "not fetched", "unknown",
]  # fmt: skip
"""``missing``: it should be in a window, and is gone from the store."""


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
        self._keys = PartitionKeys(scope)

    async def is_fetched(self, seq: int) -> bool:
        """Whether the partition was read up to a message, or ahead to it."""
        blob = await self._store.ask(self._store.redis.hget(self._keys.meta, "source"))
        if not blob:
            return False
        state = SourceState.decode(blob)
        return seq <= state.position or seq in RangeSet(state.ahead)

    async def stream_created(self) -> str:
        """When the stream was made that was read, as its server writes it; empty for none."""
        blob = await self._store.ask(self._store.redis.hget(self._keys.meta, "source"))
        return SourceState.decode(blob).stream_created if blob else ""

    async def find(self, seq: int) -> list[Found]:
        """All places where a message is known to be, or to have ended.

        Args:
            seq: its stream sequence.
        """
        found = await self._in_windows(seq)
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
        redis, meta = self._store.redis, self._keys.meta
        now = (await self._store.ask(redis.hget(meta, INCARNATION_FIELD)) or b"").decode()
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

    async def _in_windows(self, seq: int) -> list[Found]:
        pipeline = self._store.redis.pipeline(transaction=True)
        keys = self._keys
        pipeline.hgetall(keys.open)
        pipeline.hgetall(keys.closed)
        pipeline.hgetall(keys.attempts)
        pipeline.hgetall(keys.deaths)
        pipeline.hgetall(keys.aside)
        for places in (keys.ready, keys.leases, keys.sealed):
            pipeline.zrange(places, 0, -1, withscores=True)
        opened, closed, attempts, deaths, aside, *held = await self._store.ask(pipeline.execute())
        ready, leases, sealed = (dict(pairs) for pairs in held)
        found = []
        for name, blob in opened.items():
            record = unpack_record(blob)
            window_id = name.decode()
            own = record.parts or [Part(window_id, record.chunks)]
            if await self._holds(record, own, seq):
                there = await self._is_there(own, seq)
                found.append(
                    Found(
                        WindowState.OPEN.value if there else "missing",
                        self._scope.partition,
                        window_id,
                        due_ms=record.deadline_ms,
                        text="" if there else _GONE,
                        incarnation=record.incarnation,
                    )
                )
        for name, value in closed.items():
            window = unpack_closed(name, value)
            if not await self._holds(window.record, window.parts, seq):
                continue
            state: State = "closed"
            text = _again(window)
            due_ms = ready.get(name, 0.0)
            if name in leases:
                state, due_ms = "leased", leases[name]
            elif name in sealed:
                state = "sealed"
            elif name in aside:
                state = "set aside"
                text = f"{unpack_aside(aside[name])[1].reason}; see `sinfer windows rebuild`"
            if not await self._is_there(window.parts, seq):
                state, text = "missing", _GONE
            found.append(
                Found(
                    state,
                    self._scope.partition,
                    window.public_id,
                    Tries.unpack(attempts.get(name, 0)).attempts + int(deaths.get(name, 0)),
                    due_ms=int(due_ms),
                    sinks=await self._written(window),
                    text=text,
                    incarnation=window.record.incarnation,
                )
            )
        return found

    async def _holds(self, record: WindowRecord, parts: list[Part], seq: int) -> bool:
        """Whether a message is in a window, or should be."""
        if not record.first_seq <= seq <= record.last_seq:
            return False
        for part in parts:
            fields = members_fields(part.segment, part.chunks)
            pipeline = self._store.redis.pipeline(transaction=False)
            pipeline.hmget(self._keys.members, fields)
            [values] = await self._store.ask_each(pipeline)
            members = read_members(values or [])
            if any(
                seq in unpack_members(packed)
                for place, packed in members.items()
                if place <= part.chunks
            ):
                return True
        return await self._is_there(parts, seq)

    async def _is_there(self, parts: list[Part], seq: int) -> bool:
        for part in parts:
            name = self._keys.segment(part.segment)
            pipeline = self._store.redis.pipeline(transaction=False)
            pipeline.lrange(name, 0, max(0, part.chunks - 1))
            [chunks] = await self._store.ask_each(pipeline)
            for chunk in chunks or []:
                try:
                    if any(m.stream_seq == seq for m in unpack_chunk(chunk)):
                        return True
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # a chunk that is gone, or cannot be read
        return False

    async def _written(self, window: ClosedWindow) -> list[str]:
        names = await self._store.ask(self._store.redis.hkeys(self._keys.output(window.id)))
        prefix = b"sink:"
        return sorted(n.removeprefix(prefix).decode() for n in names if n.startswith(prefix))


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
    again = window.record.again
    return "" if again is None else f"processed again ({again.kind})"


async def untraceable(
    store: Store, scope: Scope, pipeline: InferPipeline[Any, Any], message: Message | None
) -> tuple[State, str]:
    """What may have become of a message up to which was read, and that nothing is stored of.

    Only what can be known is told: the product's code may have been another one then.

    Args:
        store: the window store.
        scope: the partition.
        pipeline: the product's code, made for the task.
        message: the message; None when the stream has it no more.
    """
    if message is None:
        return "unknown", (
            "the stream does not have it: it was read, or removed before that, or it was none of"
            " this partition; the ledger does not know it"
        )
    seen = await snapshot(store, scope)
    account = seen.account
    removed = int(seen.meta.get("purged", 0)) + int(seen.meta.get("trimmed", 0))
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
    if await _ended_unnoted(store, seen):
        may_be.append("done before the oldest window that the ledger still has")
    if pipeline.task.source.deliver != "all":
        may_be.append("from before the task began to read")
    if may_be:
        return "unknown", ", or ".join(may_be)
    return "missing", "it was read, and is nowhere; see `sinfer audit --deep`"


async def _ended_unnoted(store: Store, seen: Snapshot) -> bool:
    """Whether more windows ended than the ledger has."""
    kept = await store.ask(store.redis.xlen(PartitionKeys(seen.scope).ledger))
    return int(kept) < int(seen.meta.get("windows", 0)) or "windows" not in seen.meta
