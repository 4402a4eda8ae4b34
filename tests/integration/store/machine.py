"""Random histories of ingestors, beats, workers and a clock, on the store and on a reference.

After every step the two must agree on every window: which there are, what is in them, why they
closed, who holds them, and where every message is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from sinfer.errors import StaleTokenError, WindowConflictError
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.store_time import TIME_FIELDS, told
from sinfer.store.work.claim import Claim, Completion
from sinfer.types.message import unpack_chunk
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.plan import Plan
from sinfer.windows.planner import Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.records import WindowRecord, unpack_closed, unpack_record
from sinfer.windows.window import CloseReason
from tests.integration.store.history import MOVES, History
from tests.support.accounts import read_account
from tests.support.window_reference import Fired, Item, Reference, fired

WRITER_LEASE_MS = 1_000
CLAIM_LEASE_MS = 300


@dataclass
class Ingestor:
    """One of two that want to write the partition."""

    writer: PartitionWriter
    planner: Planner | None = None


@dataclass
class Work:
    """What the reference knows of a closed window."""

    due_ms: int
    token: int = 0
    attempts: int = 0
    deaths: int = 0
    held_until_ms: int | None = None
    sinks: set[str] = field(default_factory=set)


class Histories(History):
    """One history."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = PartitionKeys(self.scope)
        self.schedule = Schedule(self.store)
        self.reference = Reference(self.spec, self.scope.window_prefix)
        self.ingestors = [self._ingestor("a"), self._ingestor("b")]
        self.lease: tuple[int, int] | None = None  # which ingestor has it, and until when
        self.waiting: list[Item] = []  # delivered, and not committed: delivered again
        self.fired: dict[str, Fired] = {}
        self.work: dict[str, Work] = {}
        self.granted = 0
        self.given: list[Claim] = []
        self.dead: list[tuple[str, int]] = []  # window and message
        self.done: set[str] = set()

    def ask(self, command: Any) -> Any:
        """The answer to a plain command of the client, whose types are those of both clients."""
        return self.do(self.store.ask(command))

    def _ingestor(self, owner: str) -> Ingestor:
        writer = PartitionWriter(self.store, self.scope, owner=owner, lease_ms=WRITER_LEASE_MS)
        return Ingestor(writer)

    @property
    def now(self) -> int:
        """The partition's time: Redis' clock, unless that went back."""
        fields = self.ask(self.store.redis.hmget(self.keys.meta, TIME_FIELDS))
        return told(self.store.time_ms, *fields)

    # --- ingestors ---

    @initialize()
    def first(self) -> None:
        self.start(0, False)

    @rule(which=st.integers(0, 1), lost=st.booleans())
    def start(self, which: int, lost: bool) -> None:
        """An ingestor, new or restarted, asks for the lease and loads what is stored."""
        self.ingestors[which] = self._ingestor("ab"[which])
        writer = self.ingestors[which].writer
        self.store.lose_answer = lost
        remaining = self.do(writer.acquire())
        if self.lease is not None and self.lease[0] != which and self.lease[1] > self.now:
            assert remaining == self.lease[1] - self.now
            return
        assert remaining == 0
        self.lease = (which, self.now + WRITER_LEASE_MS)
        self._load(which)

    def _load(self, which: int) -> None:
        ingestor = self.ingestors[which]
        state = self.do(ingestor.writer.load())
        assert int(state.source or 0) == self.fetched
        assert state.watermark_ms == self.reference.watermark
        ingestor.planner = make_planner(
            self.spec,
            self.scope.window_prefix,
            windows=state.windows,
            watermark_ms=state.watermark_ms,
        )
        self.reference.restart()

    @rule(which=st.integers(0, 1))
    def take_over(self, which: int) -> None:
        """One ingestor stalls for longer than its lease, and the other goes on."""
        self.advance(WRITER_LEASE_MS + 1)
        self.start(which, False)

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        self.ingestors[which] = self._ingestor("ab"[which])

    @rule(
        which=st.integers(0, 1),
        moves=MOVES,
        slow_ms=st.sampled_from([0, 0, 0, 5, 40]),
        beat_between=st.booleans(),
        fate=st.sampled_from(["ok", "ok", "ok", "lost", "crash before", "crash after"]),
    )
    def ingest(
        self,
        which: int,
        moves: list[tuple[str, int, int]],
        slow_ms: int,
        beat_between: bool,
        fate: str,
    ) -> None:
        """A batch: what was delivered before and not committed comes again."""
        if self.ingestors[which].planner is None:
            return
        for key, move, size in moves:
            self.seq, self.event_time = self.seq + 1, self.event_time + move
            self.waiting.append(Item(self.seq, key, self.event_time, size))
        items = list(self.waiting)
        now = self.now - slow_ms
        planner = self.ingestors[which].planner
        assert planner is not None
        plan = planner.plan([item.entry for item in items], now)
        if beat_between:
            self.tick(False)
        if fate == "crash before":
            self.crash(which)
            return
        stored = self._commit(which, plan, items, now, fate)
        if stored:
            self.reference.take(items, now)
            self.waiting.clear()

    @rule(
        which=st.integers(0, 1),
        reason=st.sampled_from(["idle", "drain"]),
        fate=st.sampled_from(["ok", "lost", "crash after"]),
    )
    def close_all(self, which: int, reason: CloseReason, fate: str) -> None:
        planner = self.ingestors[which].planner
        if planner is None:
            return
        if self._commit(which, planner.close_all(reason), [], None, fate, reason):
            self.reference.close_all(reason)

    def _commit(
        self,
        which: int,
        plan: Plan,
        items: list[Item],
        now: int | None,
        fate: str,
        reason: CloseReason | None = None,
    ) -> bool:
        """Commit until it is stored or refused for good; False when it was refused."""
        ingestor = self.ingestors[which]
        planner = ingestor.planner
        assert planner is not None
        while True:
            counts = {"fetched": len(items), "late": len(plan.late)}
            commit = Commit(plan, b"%d" % (self.fetched + len(items)), counts=counts)
            self.store.lose_answer = fate == "lost"
            try:
                committed = self.do(ingestor.writer.commit(commit))
            except WindowConflictError as conflict:
                planner.forget(conflict.window_ids)
                if reason is not None:
                    plan = planner.close_all(reason)
                else:
                    assert now is not None
                    plan = planner.plan([item.entry for item in items], now)
                continue
            except StaleTokenError:
                assert self.lease is None or self.lease[0] != which or self._was_renamed(which)
                ingestor.planner = None
                return False
            break
        assert self.lease is not None
        assert self.lease[0] == which
        self.lease = (which, self.now + WRITER_LEASE_MS)
        self.fetched += len(items)
        for window in plan.closed:
            self.work[window.id] = Work(self.now)
        assert committed.now_ms == self.now
        assert committed.pending == len(self.work)
        planner.apply(plan)
        if fate == "crash after":
            self.crash(which)
        return True

    def _was_renamed(self, which: int) -> bool:
        """The lease ran out and its owner took it again under another token since."""
        owner = self.ask(self.store.redis.hget(self.keys.meta, "owner"))
        return bool(owner == "ab"[which].encode())

    # --- beat and the clock ---

    @rule(ms=st.sampled_from([1, 7, 25, 60, 301, 1_001]))
    def advance(self, ms: int) -> None:
        self.do(self.store.advance(ms))

    @rule(ms=st.sampled_from([1, 500, 3_600_000]))
    def set_back(self, ms: int) -> None:
        """Redis' clock goes back. For the windows it does not."""
        self.do(self.store.advance(-ms))

    @rule(lost=st.booleans())
    def tick(self, lost: bool) -> None:
        self.store.lose_answer = lost
        closing = self.do(self.schedule.close_due(self.scope))
        before = len(self.reference.fired)
        self.reference.tick(self.now)
        due = [window.id for window in self.reference.fired[before:]]
        for window_id in due:
            self.work[window_id] = Work(self.now)
        expired = 0
        for work in self.work.values():
            if work.held_until_ms is not None and work.held_until_ms <= self.now:
                work.held_until_ms, work.due_ms = None, self.now
                work.attempts -= 1
                work.deaths += 1
                expired += 1
        if not lost:
            assert (closing.closed, closing.expired) == (len(due), expired)

    # --- workers ---

    @rule(
        limit=st.integers(1, 5), lost=st.booleans(), hinted=st.integers(0, 3), alone=st.booleans()
    )
    def claim(self, limit: int, lost: bool, hinted: int, alone: bool) -> None:
        self.store.lose_answer = lost
        claims, left = self.do(
            self.claims.claim(limit, lease_ms=CLAIM_LEASE_MS, hinted=hinted, alone=alone)
        )
        ready = sorted(
            (work.due_ms, window_id)
            for window_id, work in self.work.items()
            if work.held_until_ms is None and work.due_ms <= self.now
        )
        suspected = [name for _, name in ready if self.work[name].deaths]
        others = [name for _, name in ready if not self.work[name].deaths]
        given = suspected[:1] if alone else others[:limit]
        assert [claim.window.id for claim in claims] == given
        assert left == len(others) - (0 if alone else len(given))
        assert self.claims.suspected == len(suspected) - (len(given) if alone else 0)
        whole = self.do(self.claims.whole(claims))
        assert [claim for claim, _ in whole] == claims
        for claim, messages in whole:
            window_id = claim.window.id
            assert fired(claim.window, messages) == self.fired[window_id]
            assert claim.token > self.granted  # tokens grow, whatever else happens
            self.granted = claim.token
            work = self.work[window_id]
            work.token, work.held_until_ms = claim.token, self.now + CLAIM_LEASE_MS
            work.attempts += 1
            assert (claim.attempt, claim.deaths) == (work.attempts, work.deaths)
            assert self.do(self.claims.read_output(claim)).sinks == work.sinks
            self.given.append(claim)

    def _holds(self, claim: Claim) -> Work | None:
        """The work of a claim that still counts, whether or not its lease is over."""
        work = self.work.get(claim.window.id)
        return work if work and work.held_until_ms and work.token == claim.token else None

    @precondition(lambda self: self.given)
    @rule(data=st.data(), lost=st.booleans())
    def renew(self, data: st.DataObject, lost: bool) -> None:
        claim = data.draw(st.sampled_from(self.given))
        self.store.lose_answer = lost
        [held] = self.do(self.claims.renew([claim], lease_ms=CLAIM_LEASE_MS))
        work = self._holds(claim)
        assert held is (work is not None)
        if work:
            work.held_until_ms = self.now + CLAIM_LEASE_MS

    @precondition(lambda self: self.given)
    @rule(data=st.data(), lost=st.booleans(), sink=st.sampled_from(["sql-0", "log-1"]))
    def finish_sink(self, data: st.DataObject, lost: bool, sink: str) -> None:
        claim = data.draw(st.sampled_from(self.given))
        self.store.lose_answer = lost
        held = self.do(self.claims.store_output(claim, output=b"rows", sinks=[sink]))
        work = self._holds(claim)
        assert held is (work is not None)
        if work:
            work.sinks.add(sink)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), lost=st.booleans(), wait_ms=st.sampled_from([0, 50]))
    def release(self, data: st.DataObject, lost: bool, wait_ms: int) -> None:
        claim = data.draw(st.sampled_from(self.given))
        counts = data.draw(st.booleans())
        work = self._holds(claim)
        self.store.lose_answer = lost
        due = self.do(self.claims.release(claim, wait_ms=wait_ms, counts=counts))
        if work:
            work.held_until_ms, work.due_ms = None, self.now + wait_ms
            work.attempts -= not counts
        assert due == (self.now + wait_ms if work else 0)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), lost=st.booleans(), bad=st.integers(0, 3))
    def complete(self, data: st.DataObject, lost: bool, bad: int) -> None:
        claim = data.draw(st.sampled_from(self.given))
        self._complete(claim, lost, bad)

    def _complete(self, claim: Claim, lost: bool, bad: int) -> None:
        window_id = claim.window.id
        work = self._holds(claim)
        messages = self.do(self.claims.read([claim]))[0] if work else []
        letters = [
            DeadLetter(message, "inference", "bad", self.now, window_id)
            for message in messages[:bad]
        ]
        counts = {"sunk": len(messages) - len(letters), "dead": len(letters), "windows": 1}
        self.store.lose_answer = lost
        [done] = self.do(self.claims.complete([Completion(claim, counts, letters)]))
        assert done is (work is not None)
        if work:
            del self.work[window_id]
            self.done.add(window_id)
            self.dead += [(window_id, letter.message.stream_seq) for letter in letters]

    # --- what must hold at every moment ---

    @invariant()
    def closed_windows_agree(self) -> None:
        stored = self.ask(self.store.redis.hgetall(self.keys.closed))
        assert {name.decode() for name in stored} == set(self.work)
        for name, value in stored.items():
            if name.decode() not in self.fired:
                window = unpack_closed(name, value)
                messages = self.do(self.claims.read([Claim(window, 0, 0)]))[0]
                self.fired[window.id] = fired(window, messages)
        assert sorted(self.fired.values()) == sorted(self.reference.fired)
        assert len(self.reference.fired) == len(self.fired)

    @invariant()
    def open_windows_agree(self) -> None:
        if self.reference.keeps_content:
            return
        stored = self.ask(self.store.redis.hgetall(self.keys.open))
        real = sorted(self._open_window(name, unpack_record(blob)) for name, blob in stored.items())
        assert real == sorted(
            (window.key, window.start or 0, window.end or 0, window.deadline or 0, window.members)
            for window in self.reference.all_open
        )

    def _open_window(
        self, name: bytes, record: WindowRecord
    ) -> tuple[str, int, int, int, tuple[int, ...]]:
        segments = [part.segment for part in record.parts] or [name.decode()]
        found = []
        for segment in segments:
            chunks = self.ask(self.store.redis.lrange(self.keys.segment(segment), 0, -1))
            found += [message.stream_seq for chunk in chunks for message in unpack_chunk(chunk)]
        return (
            record.key, record.start_ms or 0, record.end_ms or 0, record.deadline_ms,
            tuple(sorted(found)),
        )  # fmt: skip

    @invariant()
    def every_message_is_accounted_for(self) -> None:
        account = self.do(read_account(self.store, self.scope))
        assert account.missing == 0
        assert account.fetched == self.fetched
        assert account.late == len(self.reference.late)
        if not self.reference.keeps_content:
            assert account.dead == len(self.dead)

    # --- the end ---

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.do(self.store.aclose())
            self.runner.close()

    def _finish(self) -> None:
        """Drain, work through everything: nothing is left but what the next start needs."""
        for _ in range(10):  # a clock that was set back goes on from the first look at it
            self.do(self.store.advance(WRITER_LEASE_MS))
            self.do(self.store.now_ms(self.keys.meta))
        self.start(0, False)
        self.close_all(0, "drain", "ok")
        self.tick(False)
        self.closed_windows_agree()
        while self.work:
            self.claim(5, False, 0, False)
            self.claim(1, False, 0, True)
            for claim in self.given[-6:]:
                self._complete(claim, False, 0)
        self.every_message_is_accounted_for()
        account = self.do(read_account(self.store, self.scope))
        assert (account.buffered, account.in_flight) == (0, 0)
        given_up = {seq for _, seq in self.dead} if self.reference.keeps_content else self.dead
        assert account.dead == len(given_up)
        assert self.ask(self.store.redis.xlen(self.keys.dead)) == len(given_up)
        assert account.sunk == self.fetched - len(self.reference.late) - len(given_up)
        self.do(self._only_meta_is_left())

    async def _only_meta_is_left(self) -> None:
        kept = {self.keys.meta, self.keys.dead}
        pattern = f"sinfer:*{self.scope.task}*"
        async for key in self.store.redis.scan_iter(match=pattern, count=1000):
            assert key.decode() in kept or ":ask:" in key.decode()
