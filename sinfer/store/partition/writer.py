"""The writing side of a partition's windows: lease, load, commit. One writer at a time."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sinfer.errors import (
    LostPositionError,
    PositionError,
    StaleTokenError,
    StoreError,
    UnavailableError,
    WindowConflictError,
)
from sinfer.store.keys import (
    CONFIG_FIELD,
    COPIED_FIELD,
    INCARNATION_FIELD,
    STANDSTILL_FIELD,
    PartitionKeys,
)
from sinfer.store.lua import HINT_MS as HINT_MS
from sinfer.store.lua import Argument
from sinfer.store.partition.alignment import ready_waiting_windows
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.work.members import members_entry
from sinfer.types.message import pack_chunk
from sinfer.windows.dead_letters import DeadEntry, DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope, reset_command
from sinfer.windows.plan import Plan
from sinfer.windows.records import (
    WindowRecord,
    pack_record,
    read_record,
    unpack_closed,
    unpack_record,
)

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What a new writer starts from.

    Attributes:
        source: the reader's state as it was committed; None when nothing ever was.
        watermark_ms: the watermark; None before the first item.
        windows: open windows by id.
        config: the task's configuration as its last writer stored it; empty when none did.
        layout: how often the task's windows were cut anew in another way.
        incarnation: of the source, noted on windows that open; empty when no writer knew it, or
            when the position was removed: what is read next is of another one.
        repeats_to: noted likewise; see ``WindowRecord``.
        deaths: how many writers in a row ended without giving the partition back.
        hand: what the last of them noted before it gave it to the product's code; empty when it
            noted nothing.
    """

    source: bytes | None
    watermark_ms: int | None
    windows: dict[str, WindowRecord]
    config: str = ""
    layout: int = 0
    incarnation: str = ""
    repeats_to: int = 0
    deaths: int = 0
    hand: bytes = b""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the windows of a partition hold that are not done.

    Attributes:
        bytes: payloads of closed windows, counted once for each window that holds them.
        first_seq: least stream sequence among the messages of closed windows, and of open ones
            where these were asked for; None when there is no such window.
        copied: the last dead letter that a copy was sent of, where that was asked for; None when
            there is none.
        uncopied: the last dead letter of all, where that was asked for and no copy of it was sent
            yet; None when all that there are were copied.
    """

    bytes: int
    first_seq: int | None
    copied: DeadEntry | None = None
    uncopied: DeadEntry | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch, ready to be stored.

    Attributes:
        plan: what it does to the windows.
        source: the reader's state after it.
        dead: messages that were given up.
        counts: what happened to its messages, added to the account.
        idle: whether the source is idle: nothing came for a while and nothing is pending. Then the
            other partitions of the task do not wait for this one.
    """

    plan: Plan
    source: bytes
    dead: Sequence[DeadLetter] = ()
    counts: dict[str, int] = field(default_factory=dict)
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What the store says after a commit.

    Attributes:
        now_ms: its clock.
        pending: windows that are closed, not done and not set aside.
        hint: closed windows that no Celery message is on its way for.
        next_due_ms: when beat has to look at the partition; 0 for never.
        awaiting: windows that wait for the watermarks of other partitions.
        lost: chunks of open windows that are not in the store any more; the windows are set aside
            when they are closed.
    """

    now_ms: int
    pending: int
    hint: int
    next_due_ms: int
    awaiting: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    """The commit that was tried last, the name the store knows it by, and what it follows."""

    commit: Commit | None
    name: str
    follows: int


def _flat(rows: Iterable[tuple[Argument, ...]]) -> list[Argument]:
    """The words of a list, one behind the other, as a script takes it."""
    return [word for row in rows for word in row]


class PartitionWriter:
    """Writes one partition under a lease whose fencing token the store checks at each commit.

    Args:
        store: the window store.
        scope: the partition.
        owner: who writes; unique to this writer.
        lease_ms: how long the lease lasts after each sign of life.
        partitions: in event time, all partitions of the task, if there are several: windows wait
            for the least of their watermarks.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        *,
        owner: str,
        lease_ms: int,
        partitions: Sequence[Scope] = (),
    ) -> None:
        self.scope = scope
        self.keys = PartitionKeys(scope)
        self._store = store
        self._owner = owner
        self._lease_ms = lease_ms
        self._partitions = tuple(partitions) if len(partitions) > 1 else ()
        self._token = 0
        self._commits = 0
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
        """Keys and arguments of the script ``acquire``, for many leases in one round trip."""
        return [self.keys.meta], [self._owner, self._lease_ms, self._commits]

    @property
    def renewal(self) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of the script ``renew_lease``; may be asked for from any thread."""
        return [self.keys.meta], [self._token, self._lease_ms, self._commits]

    @property
    def return_call(self) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of the script ``yield``; may be asked for from any thread."""
        return [self.keys.meta], [self._token]

    def note_call(self, hand: bytes, deaths: int) -> tuple[list[str], list[Argument]]:
        """Keys and arguments of the script ``note_hand``; may be asked for from any thread."""
        return [self.keys.meta], [self._token, hand, deaths]

    async def note_hand(self, hand: bytes, deaths: int) -> None:
        """Note what is about to be given to a product's code, and how often that killed.

        Raises:
            StaleTokenError: another writer holds the lease.
            UnavailableError: it is not noted.
        """
        if not await self._store.run("note_work_in_hand", *self.note_call(hand, deaths)):
            raise StaleTokenError(f"{self.scope} has another writer by now")

    @property
    def holds_lease(self) -> bool:
        """Whether the lease was taken and not given back; it may have been lost since."""
        return bool(self._token)

    def answered(self, reply: list[Any]) -> int:
        """Take note of what the script ``acquire`` said; returns and raises as ``acquire``."""
        if not reply[0]:
            if self._token:
                raise StaleTokenError(f"{self.scope} is written by {reply[1].decode()} by now")
            return max(1, int(reply[2]))
        if self._token and self._token != reply[1]:
            raise StaleTokenError(f"{self.scope}: the lease ran out and was taken anew")
        if not self._token:
            self._token, self._commits = int(reply[1]), int(reply[2])
        return 0

    @property
    def commits(self) -> int:
        """How many commits the partition has had, the last one of this writer included."""
        return self._commits

    async def still_has(self, commits: int) -> bool:
        """Whether the store still has this writer's work up to a commit.

        It has not when it went back, as after a power cut, or when another writes by now.
        """
        fields = ["token", "commits"]
        token, found = await self._store.ask(self._store.redis.hmget(self.keys.meta, fields))
        return int(token or 0) == self._token and int(found or 0) >= commits

    async def store_answers(self) -> bool:
        """Whether Redis answers a question that costs it nothing."""
        try:
            await self._store.ask(self._store.redis.ping())
        except (UnavailableError, StoreError):
            return False
        return True

    async def release(self) -> None:
        """Give the lease back, so that another can take it at once."""
        if self._token:
            await self._store.run("return_writer_lease", *self.return_call)
            self._token = 0

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

    async def unfinished(self, *, with_open: bool = False, with_dead: bool = False) -> Unfinished:
        """What the closed windows that are not done hold together, all seen at one moment.

        Args:
            with_open: look for the least stream sequence in open windows as well.
            with_dead: look for dead letters that no copy was sent of as well. One of them is read
                when some are new; nothing is when there are none.

        Raises:
            StaleTokenError, PositionError: the partition is not as this writer left it, perhaps
                because Redis was wiped. What is not there may be lost and not done.
        """
        pipeline = self._store.redis.pipeline(transaction=True)
        pipeline.hmget(self.keys.meta, ["token", "commits", COPIED_FIELD])
        pipeline.hgetall(self.keys.closed)
        if with_open:
            pipeline.hvals(self.keys.open)
        if with_dead:
            behind = "-" if self._copied is None else f"({self._copied}"
            pipeline.xrevrange(self.keys.dead, "+", behind, count=1)
        (token, commits, mirrored), values, *blobs = await self._store.ask(pipeline.execute())
        dead = blobs.pop() if with_dead else []
        if int(token or 0) != self._token:
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if int(commits or 0) != self._commits:
            raise PositionError(
                f"{self.scope}: the store is at commit {int(commits or 0)}, not at {self._commits}"
            )
        self._copied = DeadEntry.of(mirrored) if mirrored else None
        last = DeadEntry.of(dead[0][0]) if dead else None
        is_copied = last is None or (self._copied is not None and last <= self._copied)
        closed = [unpack_closed(name, value).record for name, value in values.items()]
        opened = [unpack_record(blob) for found in blobs for blob in found]
        return Unfinished(
            bytes=sum(record.bytes for record in closed),
            first_seq=min((record.first_seq for record in (*closed, *opened)), default=None),
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
        redis = self._store.redis
        fields = [
            "commits", "source", "watermark", CONFIG_FIELD, "layout", INCARNATION_FIELD,
            "repeats_to", "deaths", "hand",
        ]  # fmt: skip
        found = await self._store.ask(redis.hmget(self.keys.meta, fields))
        commits, source, watermark, config, layout, incarnation, repeats_to, deaths, hand = found
        self._commits = int(commits or 0)
        windows: dict[str, WindowRecord] = {}
        cursor = 0
        while True:
            cursor, found = await self._store.ask(redis.hscan(self.keys.open, cursor, count=2000))
            for name, blob in found.items():
                record, problem = read_record(blob)
                if problem:
                    await self._close_unreadable(name.decode(), problem)
                else:
                    windows[name.decode()] = record
            if cursor == 0:
                break
        if source is None and not may_be_lost:
            await self._refuse_lost_position(len(windows))
        return PartitionState(
            source or None,  # empty: nothing was read yet
            int(watermark) if watermark else None,
            windows,
            (config or b"").decode(),
            int(layout or 0),
            (incarnation or b"").decode() if source is not None else "",
            int(repeats_to or 0),
            int(deaths or 0),
            hand or b"",
        )

    async def _close_unreadable(self, window_id: str, problem: str) -> None:
        """Close an open window whose record cannot be read, under another id: it takes no more
        messages, so that a window of its id may be opened anew."""
        keys, other = self.keys, f"{window_id}~{uuid.uuid4().hex[:8]}"
        names = [
            keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready,
            keys.segment(window_id), keys.segment(other),
        ]  # fmt: skip
        args: list[Argument] = [self._token, window_id, other]
        asked = keys.asked(uuid.uuid4().hex)
        if await self._store.run("close_unreadable_window", names, args, asked=asked):
            _log.error("%s: open window %s closed as %s: %s", self.scope, window_id, other, problem)

    async def _refuse_lost_position(self, opened: int) -> None:
        """What was never read has no windows: reading it all again would double what they hold.

        Raises:
            LostPositionError: there are windows, so the position was deleted or evicted.
        """
        closed = int(await self._store.ask(self._store.redis.hlen(self.keys.closed)))
        if opened or closed:
            raise LostPositionError(
                f"{self.scope}: its position is gone from Redis ({self.keys.meta}), while {opened}"
                f" open and {closed} closed windows are there. Restore it from a backup, or start"
                f" over with `{reset_command(self.scope)}`, which brings these windows to their end"
            )

    async def prune_configs(self) -> None:
        """Drop earlier configurations that no window was opened under."""
        redis = self._store.redis
        fields = await self._store.ask(redis.hkeys(self.keys.meta))
        start = f"{CONFIG_FIELD}:".encode()
        kept = {field for field in fields if field.startswith(start)}
        if not kept:
            return
        open_records = await self._store.ask(redis.hvals(self.keys.open))
        closed = await self._store.ask(redis.hgetall(self.keys.closed))
        opened = [read_record(blob) for blob in open_records]
        others = [unpack_closed(name, value) for name, value in closed.items()]
        if any(problem for _, problem in opened) or any(window.problem for window in others):
            return  # who knows what those were opened under
        records = [record for record, _ in opened] + [window.record for window in others]
        unused = kept - {start + record.config.encode() for record in records}
        if unused:
            await self._store.ask(redis.hdel(self.keys.meta, *unused))

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
            keys.away, keys.members, keys.aside, keys.deaths, keys.unreadable,
        ]  # fmt: skip
        left = int(await self._store.run("forget_partition", names, [self._token]))
        if left < 0:
            raise StaleTokenError(f"{self.scope} has another writer by now")
        if not left:
            self._token = 0
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
            self._batch = _Batch(commit, f"{self._name}:{self._batches}", self._commits)
        plan = commit.plan
        refs = {segment: change for segment, change in plan.refs.items() if change}
        keys = self.keys
        names = [
            keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready, keys.awaiting, keys.refs,
            keys.segment_sizes, keys.dead, keys.members, keys.aside,
        ]  # fmt: skip
        names += [keys.segment(append.segment) for append in plan.appends]
        for segment, change in refs.items():
            if change < 0:
                names += [keys.segment(segment), keys.given_up(segment)]
        deadlines = [(r.deadline_ms, name) for name, r in plan.puts.items() if r.deadline_ms]
        new = [deadline_ms for deadline_ms, name in deadlines if name in plan.opened]
        args: list[Argument] = [
            self._token, self._batch.name, self._batch.follows, self._lease_ms, HINT_MS,
            min(new, default=0),
        ]  # fmt: skip
        for words in (
            _flat(self._fields(commit, settings).items()),
            _flat(pair for pair in commit.counts.items() if pair[1]),
            plan.required,
            _flat(
                (
                    segment,
                    pack_chunk(messages),
                    len(messages) if plan.shares else 0,
                    place,
                    members_entry(place, messages),
                )
                for segment, messages, place in plan.appends
            ),
            plan.removed,
            _flat((window_id, pack_record(record)) for window_id, record in plan.puts.items()),
            _flat(deadlines),
            _flat((window.id, window.reason, pack_record(window.record)) for window in plan.closed),
            _flat(self._awaiting(plan)),
            _flat((name, change, int(name in plan.created)) for name, change in refs.items()),
            [pack_dead_letter(letter) for letter in commit.dead],
        ):
            args.append(len(words))
            args += words
        return await self._after(self._answer(await self._store.run("commit_batch", names, args)))

    def _fields(self, commit: Commit, settings: PartitionSettings | None) -> dict[str, Argument]:
        fields: dict[str, Argument] = {"source": commit.source}
        if settings is not None:
            fields |= settings.fields()
        if commit.plan.watermark_ms is not None:
            fields["watermark"] = commit.plan.watermark_ms
        if self._partitions:
            fields["partitions"] = " ".join(str(scope) for scope in self._partitions)
            fields["idle"] = int(commit.idle)
        return fields

    def _awaiting(self, plan: Plan) -> list[tuple[int, str]]:
        """The closed windows that wait for the task's watermark, behind their ends."""
        if not self._partitions:
            return []
        return [
            (window.record.end_ms, window.id)
            for window in plan.closed
            if window.reason in ("time", "gap") and window.record.end_ms is not None
        ]

    async def _after(self, committed: Committed) -> Committed:
        """Make windows ready that the other partitions do not hold back."""
        if not committed.awaiting:
            return committed
        try:
            ready = await ready_waiting_windows(self._store, self.scope, self._partitions)
        except (UnavailableError, StoreError) as error:
            # The batch is stored all the same; beat does this too, when it is due next.
            _log.debug("%s: windows wait for the others for now: %s", self.scope, error)
            return committed
        return replace(committed, hint=committed.hint + ready.hint, awaiting=ready.left)

    def _answer(self, reply: list[bytes | int]) -> Committed:
        status = reply[0]
        if status in (b"ok", b"applied"):
            self._commits = self._batch.follows + 1
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
