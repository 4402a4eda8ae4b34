"""The deep audit: each message of the stream is held against windows, ledger and dead letters.

The audit adds up counts; this looks at the messages themselves. What was read and is nowhere is
named by its stream sequence, what is in two windows by both of them. Of what the ledger or the dead
letters have no more, it says so and guesses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from nats.aio.client import Client

from sinfer.ingest.entries import Preparer
from sinfer.nats.stream_messages import StreamMessages
from sinfer.nats.subjects import EVERYTHING
from sinfer.products.pipeline import InferPipeline
from sinfer.source.checkpoint import SourceState
from sinfer.source.ranges import RangeSet
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.history.ledger import Finished, read_ledger
from sinfer.store.partition.snapshot import PartitionSnapshot, snapshot
from sinfer.store.work.claims import PartitionClaims
from sinfer.store.work.contents import unpack_members
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow

_WINDOWS_AT_ONCE = 16
_PAGE = 500
_MOST_FINDINGS = 1000
_CLOCKS_DIFFER_MS = 60_000
"""By so much the clocks of NATS and Redis may differ."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: whether something is not there, there twice, or there and should not be.
        where: ``messages``, or the name of a sink.
        text: in one line.
        window: the window, where there is one.
        ordinal: the place of the result in the window; -1 where it is about a message.
        seq: stream sequence of the message; 0 where it is not known.
    """

    kind: Literal["missing", "doubled", "foreign"]
    where: str
    text: str
    window: str = ""
    ordinal: int = -1
    seq: int = 0


@dataclass(slots=True)
class DeepAudited:
    """What a deep audit found of one partition.

    Attributes:
        scope: the partition.
        findings: what is wrong; at most 1,000, ``more`` counts the others.
        unknown: what could not be told, and why.
        sinks: of each sink, how many results it was asked about, or why it was not asked.
        messages: messages of the stream that were accounted for one by one.
        filtered: those of them that ``preprocess`` filters out, or did when their windows were
            processed.
    """

    scope: Scope
    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    unknown: list[str] = field(default_factory=list)
    sinks: dict[str, str] = field(default_factory=dict)
    messages: int = 0
    filtered: int = 0

    @property
    def is_right(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.findings

    def add(self, finding: Finding) -> None:
        """Note a finding, or that there are more than can be kept."""
        if len(self.findings) < _MOST_FINDINGS:
            self.findings.append(finding)
        else:
            self.more += 1


class DeepAudit:
    """Audits one partition; it may be at work meanwhile.

    Args:
        store: the window store.
        client: the NATS connection of the task's source.
        scope: the partition.
        pipeline: the product's code, made for the task.
        since_ms: of messages that were stored in the stream before, nothing is asked; milliseconds
            since the epoch; None for all.
        progress: is told of messages that were dealt with.
    """

    def __init__(
        self,
        store: Store,
        client: Client,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
        *,
        since_ms: int | None = None,
        progress: Progress = lambda count: None,
    ) -> None:
        self._store = store
        self._scope = scope
        self._pipeline = pipeline
        self._preparer = Preparer(pipeline)
        self._messages = StreamMessages(client, pipeline.task.source.stream)
        self._since_ms = since_ms
        self._progress = progress
        window = pipeline.task.window
        self._shares = window.type == "sliding" or window.late == "update"
        self._known = RangeSet()
        self._horizon_ms = 0
        self._nowhere: list[int] = []
        self._unlettered: list[int] = []
        self._beyond = 0
        self._incarnation = ""
        self.result = DeepAudited(scope)

    async def run(self) -> DeepAudited:
        """Look at everything.

        Raises:
            SourceError: the stream cannot be read.
            UnavailableError: Redis or NATS cannot be reached.
        """
        seen = await snapshot(self._store, self._scope, windows=True)
        self._incarnation = seen.incarnation
        await self._windows(seen)
        await self._ledger(seen)
        await self._letters()
        await self._stream(seen)
        return self.result

    # --- what the store has ---

    async def _windows(self, seen: PartitionSnapshot) -> None:
        """Whether the windows have the messages that they should have."""
        windows = [*seen.windows.closed.values(), *self._opened(seen)]
        claims = PartitionClaims(self._store, self._scope)
        suspects = []
        for first in range(0, len(windows), _WINDOWS_AT_ONCE):
            some = windows[first : first + _WINDOWS_AT_ONCE]
            for window, found in zip(some, await claims.contents(some), strict=True):
                sequences = {message.stream_seq for message in found.messages}
                if found.damage is not None:
                    sequences |= set(found.damage.sequences)
                    suspects.append(window)
                if not self._is_of_another(window.record.incarnation):
                    self._take(sequences, window.id, seen=None)
                self._progress(len(sequences))
        if not suspects:
            return
        # They may have ended, or grown, meanwhile.
        now = await snapshot(self._store, self._scope, windows=True)
        there = {window.id: window for window in [*now.windows.closed.values(), *self._opened(now)]}
        again = [there[window.id] for window in suspects if window.id in there]
        for window, found in zip(again, await claims.contents(again), strict=True):
            if found.damage is None:
                continue
            for seq in found.damage.sequences:
                self.result.add(
                    Finding("missing", "messages", found.damage.reason, window.public_id, seq=seq)
                )
            if found.damage.unknown or not found.damage.sequences:
                self.result.add(
                    Finding("missing", "messages", found.damage.reason, window.public_id)
                )

    def _is_of_another(self, incarnation: str) -> bool:
        """Whether sequences mean other messages: of an earlier stream, or an earlier start."""
        return bool(incarnation and self._incarnation and incarnation != self._incarnation)

    def _opened(self, seen: PartitionSnapshot) -> Iterable[ClosedWindow]:
        """The open windows, as if they closed now."""
        for name, record in seen.windows.opened.items():
            if record.chunks or record.parts:
                yield ClosedWindow(name, record, "drain")

    def _take(self, sequences: Iterable[int], window: str, seen: PartitionSnapshot | None) -> None:
        """These messages are in a window; each may be in one only, but where windows share them."""
        for seq in sorted(sequences):
            if not self._shares and seen is not None and seq in self._known:
                text = "the message is in another window as well"
                self.result.add(Finding("doubled", "messages", text, window, seq=seq))
            self._known.add(seq, seq)

    async def _ledger(self, seen: PartitionSnapshot) -> None:
        """The messages of finished windows."""
        kept = 0
        windows = seen.windows
        unfinished = {window.public_id for window in windows.closed.values()}
        unfinished |= windows.opened.keys()
        done: set[str] = set()
        filtered: set[int] = set()
        async for finished in read_ledger(self._store, self._scope):
            kept += 1
            entry = finished.entry
            self._oldest(finished)
            if self._is_of_another(entry.incarnation):
                continue
            is_known = entry.window in unfinished or entry.window in done
            is_new = entry.kind == "first" and not is_known
            done.add(entry.window)
            filtered.update(unpack_members(entry.filtered))
            self._take(entry.sequences, entry.window, seen if is_new else None)
            self._progress(entry.count)
        self.result.filtered += len(filtered)
        ended = seen.windows_done or 0
        if kept >= ended:
            self._horizon_ms = 0
        elif not kept:
            self._horizon_ms = await self._store.now_ms()
        if kept < ended:
            self.result.unknown.append(
                f"the ledger has {kept} of {ended} finished windows (limits.ledger): of what was"
                " stored in the stream before the oldest of them ended, only what is missing for"
                " sure is told"
            )

    def _oldest(self, finished: Finished) -> None:
        self._horizon_ms = finished.done_ms

    async def _letters(self) -> None:
        """The messages that were given up."""
        letters = DeadLetterStore(self._store).of_partition(self._scope, LetterFilter())
        async for stored in letters:
            seq = stored.letter.message.stream_seq
            if seq > 0 and not self._is_of_another(stored.letter.incarnation):
                self._known.add(seq, seq)
            self._progress(1)

    # --- what the stream has ---

    async def _stream(self, seen: PartitionSnapshot) -> None:
        """Whether anything was read that is nowhere."""
        blob = seen.checkpoint
        if not blob:
            self.result.unknown.append("nothing says how far the partition was read")
            return
        state = SourceState.decode(blob)
        info = await self._messages.api.stream_info()
        if info.created != state.stream_created:
            self.result.unknown.append(
                f"the stream was made at {info.created}; what was read came from the one made at"
                f" {state.stream_created}"
            )
            return
        if info.config.retention != "limits":
            self.result.unknown.append(
                "the stream removes what is acknowledged: only what it still has was looked at"
            )
        first = info.state.first_seq
        if first > 1:
            self.result.unknown.append(f"the stream has no messages before sequence {first}")
        if deleted := info.state.num_deleted:
            self.result.unknown.append(
                f"{deleted} messages behind its first were deleted from the stream: of these, what"
                " windows, ledger and dead letters do not have cannot be told"
            )
        if info.state.last_seq < state.position:
            text = f"the stream ends at {info.state.last_seq}, and was read up to {state.position}"
            self.result.add(Finding("missing", "stream", f"{text}: it went back"))
        if self._pipeline.task.source.deliver != "all":
            lowest = self._known.first
            first = max(first, lowest[0] if lowest else state.position + 1)
        for low, high in self._gaps(first, state):
            await self._gap(low, high)
        self.result.messages = state.position
        await self._explain(seen)

    def _gaps(self, first: int, state: SourceState) -> Iterable[tuple[int, int]]:
        """Ranges of sequences that were read and of which nothing is known."""
        known = list(self._known)
        for low, high in [(first, state.position), *state.ahead]:
            at = max(low, first)
            for known_first, known_last in known:
                if known_last < at:
                    continue
                if known_first > high:
                    break
                if known_first > at:
                    yield at, known_first - 1
                at = max(at, known_last + 1)
            if at <= high:
                yield at, high

    async def _gap(self, low: int, high: int) -> None:
        subject = self._scope.partition
        filters = [] if subject == EVERYTHING else [subject]
        while low <= high:
            found, last = await self._messages.between(low, high, filters, _PAGE)
            for message in found:
                self._weigh(message)
            self._progress(last - low + 1)
            low = last + 1
            await asyncio.sleep(0)

    def _weigh(self, message: Message) -> None:
        """What may have become of a message that is in no window, no ledger and no dead letter."""
        stored_ms = message.timestamp_ns // 1_000_000
        if self._since_ms is not None and stored_ms < self._since_ms:
            return
        prepared = self._preparer.prepare([message], stored_ms)
        if prepared.filtered:
            self.result.filtered += 1
        elif prepared.dead:
            self._unlettered.append(message.stream_seq)
        elif self._horizon_ms and stored_ms < self._horizon_ms + _CLOCKS_DIFFER_MS:
            self._beyond += 1
        elif len(self._nowhere) < 10 * _MOST_FINDINGS:
            self._nowhere.append(message.stream_seq)
        else:
            self.result.more += 1

    async def _explain(self, seen: PartitionSnapshot) -> None:
        """What is nowhere may have come late, or its dead letter may have been removed."""
        late, removed = seen.account.late, seen.letters_removed
        if self._beyond:
            self.result.unknown.append(
                f"{self._beyond} messages are older than what the ledger knows"
            )
        if not self._nowhere and not self._unlettered:
            return
        known = await self._known_now()  # it may have come somewhere since that was looked at
        nowhere = [seq for seq in self._nowhere if seq not in known]
        unlettered = [seq for seq in self._unlettered if seq not in known]
        if len(unlettered) > removed:
            for seq in unlettered:
                text = "preprocess refuses it, and its dead letter is gone"
                self.result.add(Finding("missing", "messages", text, seq=seq))
            removed = 0
        else:
            removed -= len(unlettered)
        allowed = late + removed
        if not nowhere:
            return
        if len(nowhere) <= allowed:
            self.result.unknown.append(
                f"{len(nowhere)} messages came late or had dead letters that were removed, as the"
                f" account has it ({late} late, {removed} removed): {_some(nowhere)}"
            )
            return
        doubt = f" ({allowed} of {len(nowhere)} such came late or were removed)" if allowed else ""
        for seq in nowhere:
            text = f"was read, and is in no window, ledger entry or dead letter{doubt}"
            self.result.add(Finding("missing", "messages", text, seq=seq))

    async def _known_now(self) -> RangeSet:
        """Everything that is in windows, ledger and dead letters."""
        known = RangeSet()
        seen = await snapshot(self._store, self._scope, windows=True)
        windows = [*seen.windows.closed.values(), *self._opened(seen)]
        claims = PartitionClaims(self._store, self._scope)
        for first in range(0, len(windows), _WINDOWS_AT_ONCE):
            for found in await claims.contents(windows[first : first + _WINDOWS_AT_ONCE]):
                if self._is_of_another(found.window.record.incarnation):
                    continue
                gone = [] if found.damage is None else found.damage.sequences
                for seq in (*(message.stream_seq for message in found.messages), *gone):
                    known.add(seq, seq)
        async for finished in read_ledger(self._store, self._scope):
            if self._is_of_another(finished.entry.incarnation):
                continue
            for seq in finished.entry.sequences:
                known.add(seq, seq)
        letters = DeadLetterStore(self._store).of_partition(self._scope, LetterFilter())
        async for stored in letters:
            seq = stored.letter.message.stream_seq
            if not self._is_of_another(stored.letter.incarnation):
                known.add(seq, seq)
        return known


def _some(sequences: list[int]) -> str:
    more = ", ..." if len(sequences) > 10 else ""
    return f"sequences {', '.join(map(str, sequences[:10]))}{more}"
