"""A partition whose windows live in this process: what the store does, without Redis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sinfer.clock import Clock
from sinfer.errors import WindowConflictError
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.work.claim import Claim, Completion, StoredOutput
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow, WindowRecord


@dataclass(slots=True)
class _Waiting:
    """A closed window that is not done.

    Attributes:
        window: the window.
        due_ms: not to be claimed before.
        attempt: how often it was claimed; claims that did not count left out.
        excused: the claims that did not count.
        output: what its last attempt stored.
        sinks: those that have its results.
        search: how far a search for items that kill their worker has come.
        progress: what its attempts stored while its items were asked about.
    """

    window: ClosedWindow
    due_ms: int
    attempt: int = 0
    excused: int = 0
    output: bytes | None = None
    sinks: frozenset[str] = field(default_factory=frozenset)
    search: bytes = b""
    progress: dict[str, bytes] = field(default_factory=dict)


class MemoryPartition:
    """Takes commits as ``PartitionWriter`` does, and gives windows out as ``PartitionClaims`` does.

    There are no leases, since there is nobody else.

    Args:
        scope: the partition.
        clock: tells when windows are due.
        most_tries: a window that was tried so often is left alone, whether its attempts count or
            not; None to go on.

    Attributes:
        counts: what happened to the messages: fetched, filtered, late, sunk, dead.
        dead: the messages that were given up.
    """

    def __init__(self, scope: Scope, clock: Clock, most_tries: int | None = None) -> None:
        self.scope = scope
        self._most_tries = most_tries
        self.counts: Counter[str] = Counter()
        self.dead: list[DeadLetter] = []
        self._clock = clock
        self._open: dict[str, WindowRecord] = {}
        self._segments: defaultdict[str, list[list[Message]]] = defaultdict(list)
        self._refs: Counter[str] = Counter()
        self._given_up: defaultdict[str, set[int]] = defaultdict(set)
        self._filtered: defaultdict[str, set[int]] = defaultdict(set)
        self._waiting: dict[str, _Waiting] = {}

    # --- the writing side ---

    async def store(self, commit: Commit) -> None:
        """Store a batch.

        Raises:
            WindowConflictError: windows of the plan were closed by time meanwhile.
        """
        plan = commit.plan
        now_ms = self._clock.now_ms()
        gone = tuple(name for name in plan.required if name not in self._open)
        if gone:
            raise WindowConflictError("windows closed meanwhile", now_ms, gone)
        for segment, messages, _ in plan.appends:
            self._segments[segment].append(list(messages))
        for name in plan.removed:
            self._open.pop(name, None)
        self._open.update(plan.puts)
        for window in plan.closed:
            self._close(window.id, window, now_ms)
        for segment, change in plan.refs.items():
            self._refs[segment] += change
            self._free_unheld(segment)
        self.counts.update(commit.counts)
        self.dead += commit.dead

    def close_due(self) -> int:
        """Close what is due by time; returns how many windows that were."""
        now_ms = self._clock.now_ms()
        due = [
            (record.deadline_ms, name)
            for name, record in self._open.items()
            if record.deadline_ms and record.deadline_ms <= now_ms
        ]
        for _, name in sorted(due):
            record = self._open.pop(name)
            self._close(name, ClosedWindow(name, record, record.deadline_reason), now_ms)
        return len(due)

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next open window is due by time, or the next attempt of a closed one."""
        deadlines = [record.deadline_ms for record in self._open.values() if record.deadline_ms]
        retries = [w.due_ms for w in self._waiting.values() if not self._is_left(w)]
        return min([*deadlines, *retries], default=None)

    def _close(self, name: str, window: ClosedWindow, now_ms: int) -> None:
        closed = ClosedWindow(window.id, window.record, window.reason, now_ms)
        self._waiting[name] = _Waiting(closed, now_ms)

    def _free_unheld(self, segment: str) -> None:
        """Account for the messages of a shared segment once no window holds it any more."""
        if self._refs[segment] <= 0:
            del self._refs[segment]
            messages = sum(len(chunk) for chunk in self._segments.pop(segment, []))
            dead = self._given_up.pop(segment, set())
            filtered = len(self._filtered.pop(segment, set()) - dead)
            self.counts.update(
                sunk=messages - len(dead) - filtered, dead=len(dead), filtered=filtered
            )

    @property
    def open(self) -> Mapping[str, WindowRecord]:
        """The open windows by id."""
        return self._open

    @property
    def holders(self) -> Mapping[str, int]:
        """How many windows hold each shared segment."""
        return +self._refs

    @property
    def segments(self) -> Mapping[str, Sequence[Sequence[Message]]]:
        """The messages that are kept, by segment and in chunks."""
        return self._segments

    # --- the working side ---

    def claim(self) -> tuple[Claim, list[Message]] | None:
        """The closed window that waits longest, and its messages; None when none may be tried."""
        now_ms = self._clock.now_ms()
        for waiting in self._waiting.values():
            if waiting.due_ms <= now_ms and not self._is_left(waiting):
                waiting.attempt += 1
                claim = Claim(
                    waiting.window, waiting.attempt, waiting.attempt, now_ms, waiting.excused
                )
                return claim, self.messages(waiting.window)
        return None

    def _is_left(self, waiting: _Waiting) -> bool:
        """Whether it is not tried any more."""
        return (
            self._most_tries is not None and waiting.attempt + waiting.excused >= self._most_tries
        )

    def is_excused(self, claim: Claim) -> bool:
        """Whether the window waits, and that attempt does not count."""
        waiting = self._waiting.get(claim.window.id)
        return waiting is not None and waiting.excused > claim.excused

    @property
    def has_work(self) -> bool:
        """Whether a closed window is to be tried yet."""
        return not all(map(self._is_left, self._waiting.values()))

    @property
    def unfinished(self) -> list[ClosedWindow]:
        """The closed windows that are not done."""
        return [waiting.window for waiting in self._waiting.values()]

    def messages(self, window: ClosedWindow) -> list[Message]:
        """The messages of a closed window, in the order of the stream."""
        messages = [
            message
            for part in window.parts
            for chunk in self._segments[part.segment][: part.chunks]
            for message in chunk
        ]
        return sorted(messages, key=lambda message: message.stream_seq)

    async def now_ms(self) -> int:
        return self._clock.now_ms()

    async def read_output(self, claim: Claim) -> StoredOutput:
        waiting = self._waiting[claim.window.id]
        progress = dict(waiting.progress)
        return StoredOutput(waiting.output, waiting.sinks, waiting.search, progress)

    async def store_output(
        self,
        claim: Claim,
        *,
        output: bytes | None = None,
        sinks: Sequence[str] = (),
        search: bytes | None = None,
        progress: Mapping[str, bytes] | None = None,
    ) -> bool:
        waiting = self._waiting[claim.window.id]
        waiting.progress.update(progress or {})
        waiting.output = waiting.output if output is None else output
        waiting.search = waiting.search if search is None else search
        waiting.sinks |= frozenset(sinks)
        return True

    async def complete(self, completions: Sequence[Completion]) -> list[bool]:
        for completion in completions:
            window = completion.claim.window
            del self._waiting[window.id]
            if window.shares_segments:
                self._end_shared(window, completion)
            else:
                for part in window.parts:
                    self._segments.pop(part.segment, None)
                self.counts.update(completion.counts)
                self.dead += completion.dead
        return [True] * len(completions)

    def _end_shared(self, window: ClosedWindow, completion: Completion) -> None:
        """A message that several windows give up is one dead letter."""
        for part in window.parts:
            chunks = self._segments[part.segment][: part.chunks]
            stored = {message.stream_seq for chunk in chunks for message in chunk}
            given_up = self._given_up[part.segment]
            for letter in completion.dead:
                seq = letter.message.stream_seq
                if seq in stored - given_up:
                    given_up.add(seq)
                    self.dead.append(letter)
            self._filtered[part.segment].update(stored.intersection(completion.filtered))
            self._refs[part.segment] -= 1
            self._free_unheld(part.segment)

    async def release(
        self,
        claim: Claim,
        *,
        wait_ms: int = 0,
        counts: bool = True,
        away: Mapping[str, str] | None = None,
        back: Collection[str] = (),
    ) -> int:
        waiting = self._waiting[claim.window.id]
        waiting.due_ms = self._clock.now_ms() + wait_ms
        if not counts:
            waiting.attempt -= 1
            waiting.excused += 1
        return waiting.due_ms

    async def note_answers(self, back: Collection[str], known: Collection[str]) -> None:
        """Nothing: who runs a task in this process sees each try."""

    async def note_unreadable(self, claim: Claim) -> None:
        """Nothing: what is in the memory can be read."""

    async def note_costly(self, why: str) -> None:
        """Nothing: it is in the log."""
