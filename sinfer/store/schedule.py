"""When beat has to look at which partition, and what it does there."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sinfer.errors import StoreError
from sinfer.store import keys as names
from sinfer.store.keys import PartitionKeys
from sinfer.store.lua import HINT_MS, Argument
from sinfer.store.partition.task_watermark import ready_waiting_windows
from sinfer.store.store_time import TIME_FIELDS, milliseconds, told
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_ASK_AT_ONCE = 500
"""Partitions that are asked for in one round trip."""


@dataclass(frozen=True, slots=True)
class DuePartition:
    """A partition to look at.

    Attributes:
        scope: the partition.
        due_ms: since when it is due, as the schedule says; 0 when it is looked at all the same.
    """

    scope: Scope
    due_ms: float


@dataclass(frozen=True, slots=True)
class Closing:
    """What a look at a partition did.

    Attributes:
        closed: windows closed by time.
        expired: windows taken back from workers whose lease ran out.
        hint: closed windows that no Celery message is on its way for.
        next_due_ms: when to look again; 0 for never.
        now_ms: the store's clock.
        made_ready: windows that waited for other partitions and are ready now.
    """

    closed: int
    expired: int
    hint: int
    next_due_ms: int
    now_ms: int
    made_ready: int = 0

    @property
    def wait_ms(self) -> int:
        """After how long to look again; -1 for never."""
        return max(0, self.next_due_ms - self.now_ms) if self.next_due_ms else -1


@dataclass(frozen=True, slots=True)
class Turn:
    """What a tick has to do.

    Attributes:
        also: what is done from time to time and is to be done now, by name.
        due: the partitions that are due, the longest waiting first.
    """

    also: frozenset[str]
    due: list[DuePartition]


def _scope_of(name: bytes) -> Scope | None:
    """The partition of that name; None when it is no name of a partition."""
    try:
        return Scope.parse(name.decode())
    except ValueError:
        return None


class Schedule:
    """The index of due partitions. It only speeds things up: beat looks at all of them at times.

    Its key is in no partition's slot, so it is written beside the scripts and not in them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def register(self, *scopes: Scope) -> None:
        """Make partitions known to beat."""
        await self._store.ask(self._store.redis.sadd(names.PARTITIONS, *map(str, scopes)))

    async def unregister(self, scope: Scope) -> None:
        """Have beat forget a partition that has no state any more.

        It may come back at any moment. Who brings it back makes state first, and registers it then:
        so either that is behind all that happens here, or the state is seen here.
        """
        redis, keys = self._store.redis, PartitionKeys(scope)
        await self._store.ask(redis.srem(names.PARTITIONS, str(scope)))
        await self._store.ask(redis.zrem(names.DUE, str(scope)))
        if await self._store.ask(redis.exists(keys.meta, keys.dead)):
            await self.register(scope)
            await self.announce(scope)

    async def with_state(self, scopes: Sequence[Scope]) -> list[Scope]:
        """Those of the partitions that have state; beat forgets those of which nothing is left."""
        if not scopes:
            return []
        pipeline = self._store.redis.pipeline(transaction=False)
        for scope in scopes:
            keys = PartitionKeys(scope)
            pipeline.exists(keys.meta)
            pipeline.exists(keys.dead)
        found = await self._store.ask(pipeline.execute())
        having = []
        for place, scope in enumerate(scopes):
            has_state, has_dead_letters = found[2 * place : 2 * place + 2]
            if has_state:
                having.append(scope)
            elif not has_dead_letters:
                await self.unregister(scope)
        return having

    async def announce(self, scope: Scope, wait_ms: int = 0) -> None:
        """Have beat look at a partition after so many milliseconds, or earlier if it would anyway.

        The index has a time of its own, so that it is told how long and not when.
        """
        keys = [names.CLOCK, names.DUE]
        await self._store.run("schedule_partition", keys, [str(scope), max(0, wait_ms)])

    async def hint_again(self, scope: Scope, wait_ms: int = 0) -> None:
        """Have beat send hints for a partition again: workers left its windows alone.

        Args:
            scope: the partition.
            wait_ms: not before so many milliseconds; at most ``HINT_MS``, after which beat would
                anyway.
        """
        keys = PartitionKeys(scope)
        wait_ms = min(wait_ms, HINT_MS)
        if await self._store.run("hint_partition_again", [keys.meta], [wait_ms]):
            await self.announce(scope, wait_ms)

    async def tick(self, *, pause_ms: int, limit: int, **every_ms: int) -> Turn | None:
        """Take the turn of a tick, unless another did a moment ago.

        Args:
            pause_ms: how long this one keeps others off.
            limit: most partitions that are due.
            every_ms: how often a thing is done, by its name.
        """
        things: list[Argument] = [word for pair in every_ms.items() for word in pair]
        keys, args = [names.CLOCK, names.DUE], [uuid.uuid4().hex, pause_ms, limit, *things]
        try:
            reply = await self._store.run("take_tick_turn", keys, args)
        except StoreError as error:
            await self._start_over(error)
            reply = await self._store.run("take_tick_turn", keys, args)
        if not reply:
            return None
        told, found = reply[: len(every_ms)], reply[len(every_ms) :]
        due = []
        for name, score in zip(found[::2], found[1::2], strict=True):
            if (scope := _scope_of(name)) is not None:
                due.append(DuePartition(scope, float(score)))
            else:  # it would be due for good, and in the way of others
                _log.error("%s: %r is no partition, and is removed from it", names.DUE, name)
                await self._store.ask(self._store.redis.zrem(names.DUE, name))
        now = {name for name, is_now in zip(every_ms, told, strict=True) if is_now}
        return Turn(frozenset(now), due)

    async def _start_over(self, error: StoreError) -> None:
        """Let go of what the schedule is made of, since it cannot be read: beat makes it again."""
        _log.error("%s and %s are made again: %s", names.DUE, names.CLOCK, error)
        redis = self._store.redis
        if await self._store.ask(redis.type(names.DUE)) not in (b"zset", b"none"):
            await self._store.ask(redis.delete(names.DUE))
        await self._store.ask(redis.delete(names.CLOCK))

    @property
    def index(self) -> str:
        """The set of every partition that has state."""
        return names.PARTITIONS

    async def partitions(self) -> list[Scope]:
        """Every partition that has state."""
        return (await self.known())[0]

    async def known(self) -> tuple[list[Scope], list[str]]:
        """Every partition that has state, and names that stand among them and are none."""
        found = await self._store.ask(self._store.redis.smembers(names.PARTITIONS))
        scopes, others = [], []
        for name in found:
            if (scope := _scope_of(name)) is not None:
                scopes.append(scope)
            else:
                others.append(name.decode(errors="backslashreplace"))
        return sorted(scopes), sorted(others)

    async def ready(self, scopes: Sequence[Scope], limit: int) -> list[Scope]:
        """The first of the partitions that have windows to claim now."""
        found: list[Scope] = []
        for at in range(0, len(scopes), _ASK_AT_ONCE):
            part = scopes[at : at + _ASK_AT_ONCE]
            pipeline = self._store.redis.pipeline(transaction=False)
            for scope in part:
                pipeline.zrange(PartitionKeys(scope).ready, 0, 0, withscores=True)
                pipeline.hmget(PartitionKeys(scope).meta, TIME_FIELDS)
            pipeline.time()
            *answers, clock = await self._store.ask(pipeline.execute(raise_on_error=False))
            for scope, first, noted in zip(part, answers[::2], answers[1::2], strict=True):
                if isinstance(first, Exception) or isinstance(noted, Exception) or not first:
                    continue
                if first[0][1] <= told(milliseconds(clock), *noted):
                    found.append(scope)
            if len(found) >= limit:
                break
        return found[:limit]

    async def close_due(self, scope: Scope, *, limit: int = 500, hint_ms: int = HINT_MS) -> Closing:
        """Close a partition's windows by time and take back those whose lease ran out.

        Args:
            scope: the partition.
            limit: most windows to close.
            hint_ms: how long the hints that are sent now count as on their way.
        """
        keys = PartitionKeys(scope)
        reply = await self._store.run(
            "close_due_windows",
            [
                keys.meta,
                keys.open,
                keys.deadlines,
                keys.closed,
                keys.ready,
                keys.leases,
                keys.awaiting,
                keys.attempts,
                keys.deaths,
            ],
            [limit, hint_ms, uuid.uuid4().hex],
        )
        *found, awaiting = (int(value) for value in reply)
        closing = Closing(*found)
        if not awaiting:
            return closing
        partitions = await self._store.ask(self._store.redis.hget(keys.meta, "partitions"))
        task = [Scope.parse(name) for name in (partitions or b"").decode().split()]
        ready = await ready_waiting_windows(self._store, scope, task)
        return replace(closing, hint=closing.hint + ready.hint, made_ready=ready.windows)

    async def reschedule(self, partition: DuePartition, wait_ms: int) -> None:
        """Note after how long to look again (-1: not any more), unless someone has meanwhile."""
        await self._store.run(
            "reschedule_partition",
            [names.CLOCK, names.DUE],
            [str(partition.scope), repr(partition.due_ms), wait_ms],
        )
