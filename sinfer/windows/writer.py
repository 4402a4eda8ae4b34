"""The writing side of a partition's windows: lease, load, commit. One writer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sinfer.errors import PositionError, StaleTokenError, StoreError, WindowConflictError
from sinfer.messages import pack_chunk
from sinfer.windows.dead_letters import DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.plan import Plan
from sinfer.windows.records import WindowRecord, pack_record, unpack_record
from sinfer.windows.store import Argument, Store

HINT_MS = 5_000
"""How long a Celery message counts as on its way; then beat sends another."""


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What a new writer starts from.

    Attributes:
        source: the reader's state as it was committed; None when nothing ever was.
        watermark_ms: the watermark; None before the first item.
        windows: open windows by id.
    """

    source: bytes | None
    watermark_ms: int | None
    windows: dict[str, WindowRecord]


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch, ready to be stored.

    Attributes:
        plan: what it does to the windows.
        source: the reader's state after it.
        dead: messages that were given up.
        counts: what happened to its messages, added to the account.
    """

    plan: Plan
    source: bytes
    dead: Sequence[DeadLetter] = ()
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """What the store says after a commit.

    Attributes:
        now_ms: its clock.
        pending: windows that are closed and not done.
        hint: closed windows that no Celery message is on its way for.
        next_due_ms: when beat has to look at the partition; 0 for never.
    """

    now_ms: int
    pending: int
    hint: int
    next_due_ms: int


class PartitionWriter:
    """Writes one partition under a lease whose fencing token the store checks at each commit.

    Args:
        store: the window store.
        scope: the partition.
        owner: who writes; unique to this writer.
        lease_ms: how long the lease lasts after each sign of life.
    """

    def __init__(self, store: Store, scope: Scope, *, owner: str, lease_ms: int) -> None:
        self.scope = scope
        self.keys = PartitionKeys(scope)
        self._store = store
        self._owner = owner
        self._lease_ms = lease_ms
        self._token = 0
        self._commits = 0

    async def acquire(self) -> int:
        """Take the lease, or keep it when it is held already.

        Returns:
            0 when the lease is held now, else the milliseconds that the other's lease has left.

        Raises:
            StaleTokenError: the lease was lost to someone else since it was first taken.
        """
        reply = await self._store.run("acquire", [self.keys.meta], [self._owner, self._lease_ms])
        if not reply[0]:
            if self._token:
                raise StaleTokenError(f"{self.scope} is written by {reply[1].decode()} by now")
            return max(1, int(reply[2]))
        if self._token and self._token != reply[1]:
            raise StaleTokenError(f"{self.scope}: the lease ran out and was taken anew")
        self._token, self._commits = int(reply[1]), int(reply[2])
        return 0

    async def release(self) -> None:
        """Give the lease back, so that another can take it at once."""
        if self._token:
            await self._store.run("yield", [self.keys.meta], [self._token])
            self._token = 0

    async def pending(self) -> int:
        """How many windows are closed and not done."""
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.zcard(self.keys.ready)
        pipeline.zcard(self.keys.leases)
        ready, leased = await self._store.ask(pipeline.execute())
        return int(ready) + int(leased)

    async def load(self) -> PartitionState:
        """Read where the last writer stopped. Needs the lease."""
        redis = self._store.redis
        source, watermark = await self._store.ask(
            redis.hmget(self.keys.meta, ["source", "watermark"])
        )
        windows: dict[str, WindowRecord] = {}
        cursor = 0
        while True:
            cursor, found = await self._store.ask(redis.hscan(self.keys.open, cursor, count=2000))
            windows.update((name.decode(), unpack_record(blob)) for name, blob in found.items())
            if cursor == 0:
                break
        return PartitionState(source, None if watermark is None else int(watermark), windows)

    async def commit(self, commit: Commit, *, settings: dict[str, str] | None = None) -> Committed:
        """Store a batch, all of it or nothing. Safe to repeat when no answer came.

        Args:
            commit: the batch.
            settings: further fields of the partition to set, such as ``due_reason``.

        Raises:
            WindowConflictError: windows of the plan are not open any more: ``forget`` those that
                it names and plan again.
            StaleTokenError: another writer holds the lease.
            PositionError: the batch does not follow the last one.
            StoreFullError: Redis is at maxmemory; nothing was written.
            UnavailableError: no answer; it may or may not be stored, so repeat it.
        """
        plan = commit.plan
        fields: list[Argument] = ["source", commit.source]
        if plan.watermark_ms is not None:
            fields += ["watermark", plan.watermark_ms]
        for name, value in (settings or {}).items():
            fields += [name, value]
        counts = [word for name, n in commit.counts.items() if n for word in (name, n)]
        puts: list[Argument] = []
        for window_id, record in plan.puts.items():
            is_new = int(window_id in plan.opened)
            puts += [window_id, pack_record(record), record.deadline_ms, is_new]
        closed: list[Argument] = []
        for window in plan.closed:
            closed += [window.id, window.reason, pack_record(window.record)]
        refs = {segment: change for segment, change in plan.refs.items() if change}
        keys = self.keys
        reply = await self._store.run(
            "commit",
            [
                keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready, keys.leases,
                keys.refs, keys.dead,
                *(keys.segment(name) for name, _ in plan.appends),
                *(keys.segment(name) for name in refs),
            ],
            [
                self._token, self._commits, self._lease_ms, HINT_MS,
                len(fields) // 2, *fields,
                len(counts) // 2, *counts,
                len(plan.required), *plan.required,
                len(plan.appends), *(pack_chunk(messages) for _, messages in plan.appends),
                len(plan.removed), *plan.removed,
                len(plan.puts), *puts,
                len(plan.closed), *closed,
                len(refs), *(word for item in refs.items() for word in item),
                len(commit.dead), *(pack_dead_letter(letter) for letter in commit.dead),
            ],
        )  # fmt: skip
        return self._answer(reply)

    def _answer(self, reply: list[bytes | int]) -> Committed:
        status = reply[0]
        if status in (b"ok", b"applied"):
            self._commits += 1
            now_ms, pending, hint, next_due_ms = (int(value) for value in reply[1:])
            return Committed(now_ms, pending, hint, next_due_ms)
        if status == b"stale":
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if status == b"position":
            raise PositionError(
                f"{self.scope}: the store is at commit {reply[1]!r}, this writer at {self._commits}"
            )
        if status in (b"conflict", b"early"):
            window_ids = tuple(word.decode() for word in reply[2:] if isinstance(word, bytes))
            raise WindowConflictError(
                f"{self.scope}: windows closed meanwhile", int(reply[1]), window_ids
            )
        raise StoreError(f"{self.scope}: unknown answer {status!r}")
