"""Finding a message: where in the system it is, or what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sinfer.ingest.entries import Preparer
from sinfer.ingest.ranges import RangeSet
from sinfer.ingest.state import SourceState
from sinfer.messages import Message, unpack_chunk
from sinfer.products.pipeline import InferPipeline
from sinfer.windows.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.ledger import read_ledger
from sinfer.windows.records import (
    ClosedWindow,
    Part,
    WindowRecord,
    WindowState,
    unpack_closed,
    unpack_record,
)
from sinfer.windows.store import Store
from sinfer.windows.tries import Tries

State = Literal[
    "open", "sealed", "closed", "leased", "done", "dead", "filtered", "not fetched", "unknown"
]


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

    async def find(self, seq: int, sink_names: Iterable[str] = ()) -> list[Found]:
        """All places where a message is known to be, or to have ended.

        Args:
            seq: its stream sequence.
            sink_names: the task's sinks, which have the results of every window that is done.
        """
        found = await self._in_windows(seq)
        names = list(sink_names)
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
                )
            )
        async for finished in read_ledger(self._store, self._scope):
            entry = finished.entry
            if not entry.first_seq <= seq <= entry.last_seq or seq not in entry.sequences:
                continue
            if entry.window in dead_windows:
                continue
            doubt = f"{entry.dead} of its {entry.count} messages were given up"
            found.append(
                Found(
                    "done",
                    self._scope.partition,
                    entry.window,
                    entry.attempts,
                    done_ms=finished.done_ms,
                    sinks=names,
                    text=doubt if entry.dead else "",
                )
            )
            dead_windows.add(entry.window)  # earlier times of the same window say nothing new
        return found

    async def _in_windows(self, seq: int) -> list[Found]:
        pipeline = self._store.redis.pipeline(transaction=True)
        keys = self._keys
        pipeline.hgetall(keys.open)
        pipeline.hgetall(keys.closed)
        pipeline.hgetall(keys.attempts)
        pipeline.hgetall(keys.deaths)
        for places in (keys.ready, keys.leases, keys.sealed):
            pipeline.zrange(places, 0, -1, withscores=True)
        opened, closed, attempts, deaths, *held = await self._store.ask(pipeline.execute())
        ready, leases, sealed = (dict(pairs) for pairs in held)
        found = []
        for name, blob in opened.items():
            record = unpack_record(blob)
            window_id = name.decode()
            own = record.parts or [Part(window_id, record.chunks)]
            if await self._holds(record, own, seq):
                found.append(
                    Found(
                        WindowState.OPEN.value,
                        self._scope.partition,
                        window_id,
                        due_ms=record.deadline_ms,
                    )
                )
        for name, value in closed.items():
            window = unpack_closed(name, value)
            if not await self._holds(window.record, window.parts, seq):
                continue
            state: State = "closed"
            due_ms = ready.get(name, 0.0)
            if name in leases:
                state, due_ms = "leased", leases[name]
            elif name in sealed:
                state = "sealed"
            found.append(
                Found(
                    state,
                    self._scope.partition,
                    window.public_id,
                    Tries.unpack(attempts.get(name, 0)).attempts + int(deaths.get(name, 0)),
                    due_ms=int(due_ms),
                    sinks=await self._written(window),
                    text=_again(window),
                )
            )
        return found

    async def _holds(self, record: WindowRecord, parts: list[Part], seq: int) -> bool:
        if not record.first_seq <= seq <= record.last_seq:
            return False
        for part in parts:
            name = self._keys.segment(part.segment)
            chunks = await self._store.ask(self._store.redis.lrange(name, 0, part.chunks - 1))
            if any(m.stream_seq == seq for chunk in chunks for m in unpack_chunk(chunk)):
                return True
        return False

    async def _written(self, window: ClosedWindow) -> list[str]:
        names = await self._store.ask(self._store.redis.hkeys(self._keys.output(window.id)))
        prefix = b"sink:"
        return sorted(n.removeprefix(prefix).decode() for n in names if n.startswith(prefix))


def _again(window: ClosedWindow) -> str:
    again = window.record.again
    return "" if again is None else f"processed again ({again.kind})"


def untraceable(pipeline: InferPipeline[Any, Any], message: Message | None) -> tuple[State, str]:
    """What may have become of a message that was fetched and that nothing is stored of.

    Args:
        pipeline: the product's code, made for the task.
        message: the message; None when the stream has it no more.
    """
    if message is None:
        return "unknown", "fetched; the stream has it no more, and the ledger does not know it"
    prepared = Preparer(pipeline).prepare([message], message.timestamp_ns // 1_000_000)
    if prepared.filtered:
        return "filtered", "preprocess filters it out"
    if prepared.dead:
        return "dead", f"its dead letter was removed: {prepared.dead[0].error}"
    return "unknown", "dropped as late, or done before the oldest window that the ledger still has"
