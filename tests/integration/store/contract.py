"""The contract of a window store: one random history through Redis and through memory.

Both are given the same batches, ticks, attempts and ends of windows. After every step they must
agree on what is open, what is closed and waits, what each attempt finds stored, which messages were
given up, and where every message is. In which order windows are claimed that wait at the same time
is no part of the contract.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from sinfer.clock import ManualClock
from sinfer.errors import WindowConflictError
from sinfer.local.memory import MemoryPartition
from sinfer.store.history.dead_letter_store import DeadLetterStore
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim, Completion
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.plan import Plan
from sinfer.windows.planner_types import make_planner
from sinfer.windows.window import CloseReason
from tests.integration.store.history import MOVES, History
from tests.integration.store.manual_store import START_MS
from tests.support.accounts import read_account
from tests.support.window_reference import Item

LEASE_MS = 10**9
"""Longer than a history: leases have a machine of their own, as memory has none."""

ACCOUNT = ("fetched", "filtered", "late", "sunk", "dead")


class Attempt(NamedTuple):
    """What becomes of a claimed window.

    Attributes:
        end: whether the window ends; else it is released.
        wait_ms, counts: of the release.
        output, sink, progress, search: what is stored first; empty for nothing.
        dead, filtered: how many of its messages are given up, and are filtered out.
    """

    end: bool
    wait_ms: int
    counts: bool
    output: bytes
    sink: str
    progress: str
    search: bytes
    dead: int
    filtered: int


attempts = st.builds(
    Attempt,
    st.booleans(),
    st.sampled_from([1, 30, 500]),
    st.booleans(),
    st.sampled_from([b"", b"rows"]),
    st.sampled_from(["", "sql-0", "log-1"]),
    st.sampled_from(["", "a", "b"]),
    st.sampled_from([b"", b"found"]),
    st.integers(0, 2),
    st.integers(0, 2),
)


class Seen(NamedTuple):
    """An attempt as whoever works on a window sees it."""

    window: tuple[Any, ...]
    messages: tuple[tuple[int, bytes], ...]
    attempt: int
    waits: int
    output: bytes | None
    sinks: frozenset[str]
    search: bytes
    progress: dict[str, bytes]


def letters_of(
    found: Sequence[DeadLetter],
) -> list[tuple[int, str, str, str, bytes]]:
    return sorted(
        (one.message.stream_seq, one.stage, one.error, one.window, one.message.data)
        for one in found
    )


class Contract(History):
    """One history."""

    def __init__(self) -> None:
        super().__init__()
        self.writer = PartitionWriter(self.store, self.scope, owner="a", lease_ms=LEASE_MS)
        self.clock = ManualClock(START_MS)
        self.memory = MemoryPartition(self.scope, self.clock)
        self.planner = make_planner(self.spec, self.scope.window_prefix)

    @initialize()
    def begin(self) -> None:
        assert self.do(self.writer.acquire()) == 0
        self.do(self.writer.load())

    # --- the writing side ---

    @rule(
        moves=MOVES,
        beat_between=st.booleans(),
        given_up=st.booleans(),
    )
    def ingest(self, moves: list[tuple[str, int, int]], beat_between: bool, given_up: bool) -> None:
        """A batch, of which one message may be given up before it gets into a window."""
        items = []
        for key, move, size in moves:
            self.seq, self.event_time = self.seq + 1, self.event_time + move
            items.append(Item(self.seq, key, self.event_time, size))
        dead = []
        if given_up and items:
            bad = items.pop()
            message = Message(b"?", stream_seq=bad.seq)
            dead = [DeadLetter(message, "preprocess", "bad", START_MS)]
        entries = [item.entry for item in items]
        now_ms = self.clock.now_ms()
        plan = self.planner.plan(entries, now_ms)
        if beat_between:
            self.tick()
        while not self._commit(plan, len(moves), dead):
            plan = self.planner.plan(entries, now_ms)

    @rule(reason=st.sampled_from(["idle", "drain"]))
    def close_all(self, reason: CloseReason) -> None:
        while not self._commit(self.planner.close_all(reason), 0, []):
            pass

    def _commit(self, plan: Plan, fetched: int, dead: list[DeadLetter]) -> bool:
        """Store a plan in both; False where both refuse it, since windows were closed meanwhile."""
        counts = {"fetched": fetched, "late": len(plan.late), "dead": len(dead)}
        counts = {name: count for name, count in counts.items() if count}
        commit = Commit(plan, b"%d" % (self.fetched + fetched), dead=dead, counts=counts)
        gone = [self.do(self._gone(side.commit(commit))) for side in (self.writer,)]
        gone += [self.do(self._gone(self.memory.store(commit)))]
        assert gone[0] == gone[1]
        if gone[0]:
            self.planner.forget(tuple(gone[0]))
            return False
        self.fetched += fetched
        self.planner.apply(plan)
        return True

    async def _gone(self, step: Coroutine[Any, Any, Any]) -> set[str]:
        try:
            await step
        except WindowConflictError as conflict:
            return set(conflict.window_ids)
        return set()

    # --- beat and the clock ---

    @rule(ms=st.sampled_from([1, 7, 25, 60, 301, 1_001]))
    def advance(self, ms: int) -> None:
        self.do(self.store.advance(ms))
        self.clock.advance(ms)

    @rule()
    def tick(self) -> None:
        assert self.do(Schedule(self.store).close_due(self.scope)).closed == self.memory.close_due()

    # --- workers ---

    @rule(fates=st.lists(attempts, min_size=1, max_size=4))
    def work(self, fates: list[Attempt]) -> None:
        """Try every window that may be tried now; what becomes of each is drawn."""
        held, left = self.do(self.claims.claim(1_000, lease_ms=LEASE_MS))
        assert left == 0
        found = {claim.window.id: claim for claim, _ in self.do(self.claims.whole(held))}
        tried = 0
        while (claimed := self.memory.claim()) is not None:
            here, messages = claimed
            there = found.pop(here.window.id)
            seen = self.do(self._seen(self.memory, here, messages))
            [stored] = self.do(self.claims.read([there]))
            assert self.do(self._seen(self.claims, there, stored)) == seen
            fate = fates[tried % len(fates)]
            assert self.do(self._try(self.claims, there, messages, fate)) == self.do(
                self._try(self.memory, here, messages, fate)
            )
            tried += 1
        assert not found

    async def _seen(self, claims: Any, claim: Claim, messages: Sequence[Message]) -> Seen:
        window = claim.window
        output = await claims.read_output(claim)
        return Seen(
            (window.id, window.record, window.reason, window.closed_ms),
            tuple(sorted((message.stream_seq, message.data) for message in messages)),
            claim.attempt,
            claim.excused,
            output.output,
            output.sinks,
            output.search,
            dict(output.progress),
        )

    async def _try(
        self, claims: Any, claim: Claim, messages: Sequence[Message], fate: Attempt
    ) -> object:
        assert await claims.store_output(
            claim,
            output=fate.output or None,
            sinks=[fate.sink] if fate.sink else (),
            search=fate.search or None,
            progress={fate.progress: b"done"} if fate.progress else None,
        )
        if not fate.end:
            return await claims.release(claim, wait_ms=fate.wait_ms, counts=fate.counts)
        bad, others = messages[: fate.dead], messages[fate.dead :]
        filtered = [message.stream_seq for message in others[: fate.filtered]]
        counts = Counter(
            sunk=len(others) - len(filtered), dead=len(bad), filtered=len(filtered), windows=1
        )
        window_id = claim.window.id
        dead = [DeadLetter(one, "inference", "bad", START_MS, window_id) for one in bad]
        return await claims.complete([Completion(claim, counts, dead, filtered=filtered)])

    # --- what must hold at every moment ---

    @invariant()
    def what_is_open_agrees(self) -> None:
        assert self.do(self.writer.load()).windows == dict(self.memory.open)

    @invariant()
    def the_accounts_agree(self) -> None:
        account = self.do(read_account(self.store, self.scope))
        assert account.missing == 0
        counts = self.memory.counts
        assert {name: getattr(account, name) for name in ACCOUNT} == {
            name: counts[name] for name in ACCOUNT
        }
        assert self.do(self.claims.waiting()) == len(self.memory.unfinished)

    @invariant()
    def the_dead_letters_agree(self) -> None:
        assert self.do(self._stored_letters()) == letters_of(self.memory.dead)

    async def _stored_letters(self) -> list[tuple[int, str, str, str, bytes]]:
        letters = DeadLetterStore(self.store).after(self.scope, "-")
        return letters_of([stored.letter async for stored in letters])

    def teardown(self) -> None:
        try:
            self.close_all("drain")
            self.advance(1_001)
            self.work([Attempt(True, 1, True, b"", "", "", b"", 0, 0)])
            assert not self.memory.unfinished
            self.the_accounts_agree()
            self.the_dead_letters_agree()
        finally:
            self.do(self.store.aclose())
            self.runner.close()
