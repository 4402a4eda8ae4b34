"""The writing side of a partition's windows: lease, load, commit. One writer at a time."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sinfer.errors import (
    PositionError,
    StaleTokenError,
    StoreError,
    UnavailableError,
    WindowConflictError,
)
from sinfer.store.keys import (
    STANDSTILL_FIELD,
    PartitionKeys,
)
from sinfer.store.lua import HINT_MS as HINT_MS
from sinfer.store.lua import Argument
from sinfer.store.partition.batch_commit import (
    Commit,
    Committed,
    earliest_deadline_ms,
    keys_of,
    lists_of,
)
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.partition_state import PartitionState, prune_configs, read_state
from sinfer.store.partition.task_watermark import ready_waiting_windows
from sinfer.store.partition.unfinished_windows import (
    Unfinished,
    index_unfinished,
    look_at_unfinished,
)
from sinfer.windows.dead_letters import DeadEntry
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """The commit that was tried last, the name the store knows it by, and what it follows."""

    commit: Commit | None
    name: str
    follows: int


class PartitionWriter:
    """Writes one partition under a lease whose fencing token the store checks at each commit.

    Args:
        store: the window store.
        scope: the partition.
        owner: who writes; unique to this writer.
        lease_ms: how long the lease lasts after each sign of life.
        partitions: in event time, all partitions of the task, if there are several: windows wait
            for the least of their watermarks.
        tracks_first: whether it is wanted which message is the first that is not done.

    Attributes:
        partitions: see above; empty where windows wait for nobody.
        token: the fencing token of the lease; 0 while it is not held.
        commits: how many commits the partition has had, the last one of this writer included.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        *,
        owner: str,
        lease_ms: int,
        partitions: Sequence[Scope] = (),
        tracks_first: bool = False,
    ) -> None:
        self.scope = scope
        self.keys = PartitionKeys(scope)
        self._store = store
        self._owner = owner
        self._lease_ms = lease_ms
        self.partitions = tuple(partitions) if len(partitions) > 1 else ()
        self._tracks_first = tracks_first
        self.token = 0
        self.commits = 0
        self._name = uuid.uuid4().hex
        self._batches = 0
        self._batch = _Batch(None, "", 0)
        self._copied: DeadEntry | None = None

    async def acquire(self) -> int:
        """Take the lease, or keep it when it is held already.

        Returns:
            0 when the lease is held now, else the milliseconds that the other's lease has left.

        Raises:
            StaleTokenError: the lease was lost to someone else since it was first taken.
        """
        return self.answered(await self._store.run("take_writer_lease", *self.lease_call))

    async def seize(self) -> None:
        """Take the lease from whoever holds it. That writer notices at its next commit, which is
        refused, or when it renews its lease, and waits for this one."""
        args: list[Argument] = [self._owner, self._lease_ms]
        asked = self.keys.asked(uuid.uuid4().hex)
        self.answered(
            await self._store.run("seize_writer_lease", [self.keys.meta], args, asked=asked)
        )

    @property
    def lease_call(self) -> tuple[list[str], list[Argument]]:
        """What ``take_writer_lease.lua`` takes, for many leases in one round trip."""
        return [self.keys.meta], [self._owner, self._lease_ms, self.commits]

    @property
    def renewal(self) -> tuple[list[str], list[Argument]]:
        """What ``renew_writer_lease.lua`` takes; may be asked for from any thread."""
        return [self.keys.meta], [self.token, self._lease_ms, self.commits]

    @property
    def return_call(self) -> tuple[list[str], list[Argument]]:
        """What ``return_writer_lease.lua`` takes; may be asked for from any thread."""
        return [self.keys.meta], [self.token]

    def note_call(self, hand: bytes, deaths: int) -> tuple[list[str], list[Argument]]:
        """What ``note_work_in_hand.lua`` takes; may be asked for from any thread."""
        return [self.keys.meta], [self.token, hand, deaths]

    async def note_hand(self, hand: bytes, deaths: int) -> None:
        """Note what is about to be given to a product's code, and how often that killed.

        Raises:
            StaleTokenError: another writer holds the lease.
            UnavailableError: it is not noted.
        """
        if not await self._store.run("note_work_in_hand", *self.note_call(hand, deaths)):
            raise StaleTokenError(f"{self.scope} has another writer by now")

    def answered(self, reply: list[Any]) -> int:
        """Take note of what ``take_writer_lease.lua`` said; returns and raises as ``acquire``."""
        if not reply[0]:
            if self.token:
                raise StaleTokenError(f"{self.scope} is written by {reply[1].decode()} by now")
            return max(1, int(reply[2]))
        if self.token and self.token != reply[1]:
            raise StaleTokenError(f"{self.scope}: the lease ran out and was taken anew")
        if not self.token:
            self.token, self.commits = int(reply[1]), int(reply[2])
        return 0

    async def store_answers(self) -> bool:
        """Whether Redis answers a question that costs it nothing."""
        try:
            await self._store.ask(self._store.redis.ping())
        except (UnavailableError, StoreError):
            return False
        return True

    async def release(self) -> None:
        """Give the lease back, so that another can take it at once."""
        if self.token:
            await self._store.run("return_writer_lease", *self.return_call)
            self.token = 0

    async def note_drained(self, since_ms: int) -> None:
        """Note that all was closed for a drain.

        Args:
            since_ms: when the drain was asked for, which names it.
        """
        await self._store.ask(self._store.redis.hset(self.keys.meta, "drained", since_ms))

    async def note_stall(self, why: str) -> None:
        """Note for ``sinfer status`` why the source gives no more messages; empty: it does."""
        redis, meta = self._store.redis, self.keys.meta
        if why:
            await self._store.ask(redis.hset(meta, STANDSTILL_FIELD, why))
        else:
            await self._store.ask(redis.hdel(meta, STANDSTILL_FIELD))

    async def waits_for_the_clock(self) -> bool:
        """Whether the clock will close a window."""
        return bool(await self._store.ask(self._store.redis.zcard(self.keys.deadlines)))

    async def now_ms(self) -> int:
        """The partition's time; see ``Store.now_ms``."""
        return await self._store.now_ms(self.keys.meta)

    async def pending(self) -> int:
        """How many windows are closed, not done and not set aside."""
        pipeline = self._store.redis.pipeline(transaction=True)
        pipeline.hlen(self.keys.closed)
        pipeline.hlen(self.keys.aside)
        closed, aside = await self._store.ask(pipeline.execute())
        return int(closed) - int(aside)

    async def unfinished(self, *, with_dead: bool = False) -> Unfinished:
        """What the closed windows that are not done hold together, and which message is the first
        that is not done, where the writer tracks that; all seen at one moment.

        Args:
            with_dead: look for dead letters that no copy was sent of as well. One of them is read
                when some are new; nothing is when there are none.

        Raises:
            StaleTokenError, PositionError: the partition is not as this writer left it, perhaps
                because Redis was wiped. What is not there may be lost and not done.
        """
        behind = ("-" if self._copied is None else f"({self._copied}") if with_dead else ""
        seen = await look_at_unfinished(
            self._store, self.scope, behind=behind, wants_first=self._tracks_first
        )
        if seen.token != self.token:
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if seen.commits != self.commits:
            raise PositionError(
                f"{self.scope}: the store is at commit {seen.commits}, not at {self.commits}"
            )
        self._copied = seen.copied
        last = seen.last_letter
        is_copied = last is None or (self._copied is not None and last <= self._copied)
        return Unfinished(
            bytes=seen.bytes,
            first_seq=seen.first_seq,
            copied=self._copied,
            uncopied=None if is_copied else last,
        )

    async def load(self, *, may_be_lost: bool = False) -> PartitionState:
        """Read where the last writer stopped, and go on from there. Needs the lease.

        Args:
            may_be_lost: whether that may be gone while there are windows.

        Raises:
            LostPositionError: it is gone, and may not be.
        """
        self.commits, state = await read_state(
            self._store, self.scope, self.token, may_be_lost=may_be_lost
        )
        if self._tracks_first:
            await index_unfinished(self._store, self.scope, self.commits, state.windows)
        return state

    async def prune_configs(self) -> None:
        """Drop earlier configurations that no window was opened under."""
        await prune_configs(self._store, self.scope)

    async def forget(self) -> int:
        """Remove all that is stored of the partition, when no window of it is left.

        Dead letters stay until they are purged.

        Returns:
            How many windows are left; nothing is removed then.

        Raises:
            StaleTokenError: another writer holds the lease.
        """
        keys = self.keys
        names = [
            keys.meta, keys.open, keys.closed, keys.deadlines, keys.ready, keys.awaiting,
            keys.leases, keys.tokens, keys.attempts, keys.refs, keys.segment_sizes, keys.ledger,
            keys.outages, keys.members, keys.aside, keys.deaths, keys.unreadable, keys.unfinished,
            keys.gone,
        ]  # fmt: skip
        left = int(await self._store.run("forget_partition", names, [self.token]))
        if left < 0:
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if not left:
            self.token = 0
        return left

    async def commit(
        self, commit: Commit, *, settings: PartitionSettings | None = None
    ) -> Committed:
        """Store a batch, all of it or nothing. Safe to repeat when no answer came.

        Args:
            commit: the batch. The same object is stored once, however often it is given.
            settings: what else changes of the partition.

        Raises:
            WindowConflictError: windows of the plan are not open any more: ``forget`` those that
                it names and plan again.
            StaleTokenError: another writer holds the lease.
            PositionError: the batch does not follow the last one: ``load`` and start from there.
            StoreFullError: Redis is at maxmemory; nothing was written.
            UnavailableError: no answer; it may or may not be stored, so repeat it.
        """
        if commit is not self._batch.commit:
            self._batches += 1
            self._batch = _Batch(commit, f"{self._name}:{self._batches}", self.commits)
        args: list[Argument] = [
            self.token, self._batch.name, self._batch.follows, self._lease_ms, HINT_MS,
            earliest_deadline_ms(commit.plan),
            *lists_of(commit, settings, self.partitions, self._indexed),
        ]  # fmt: skip
        reply = await self._store.run("commit_batch", keys_of(commit, self.keys), args)
        return await self._after(self._answer(reply))

    @property
    def _indexed(self) -> int | None:
        return self._batch.follows + 1 if self._tracks_first else None

    async def _after(self, committed: Committed) -> Committed:
        """Make windows ready that the other partitions do not hold back."""
        if not committed.awaiting:
            return committed
        try:
            ready = await ready_waiting_windows(self._store, self.scope, self.partitions)
        except (UnavailableError, StoreError) as error:
            # The batch is stored all the same; beat does this too, when it is due next.
            _log.debug("%s: windows wait for the others for now: %s", self.scope, error)
            return committed
        return replace(committed, hint=committed.hint + ready.hint, awaiting=ready.left)

    def _answer(self, reply: list[bytes | int]) -> Committed:
        status = reply[0]
        if status in (b"ok", b"applied"):
            self.commits = self._batch.follows + 1
            return Committed(*(int(value) for value in reply[1:]))
        if status == b"stale":
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if status == b"position":
            raise PositionError(
                f"{self.scope}: the store is at commit {reply[1]!r}, not at {self._batch.follows}"
            )
        if status in (b"conflict", b"early"):
            window_ids = tuple(word.decode() for word in reply[2:] if isinstance(word, bytes))
            raise WindowConflictError(
                f"{self.scope}: windows closed meanwhile", int(reply[1]), window_ids
            )
        raise StoreError(f"{self.scope}: unknown answer {status!r}")
