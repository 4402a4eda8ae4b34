"""Closed windows that workers could have taken, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import CLOCK, DUE, partition_keys
from sinfer.store.store_time import TIME_FIELDS, milliseconds, told
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_AT_ONCE = 500
"""Partitions that are asked for in one round trip."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in a partition.

    Attributes:
        windows: closed windows that nobody holds.
        oldest_ms: how long the first of them could have been taken, milliseconds.
    """

    windows: int
    oldest_ms: int


async def waiting(store: Store, scopes: Sequence[Scope]) -> dict[Scope, Waiting]:
    """What waits in these partitions; those in which nothing does are left out.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    found = {}
    scopes = await _with_ready(store, scopes)
    for at in range(0, len(scopes), _AT_ONCE):
        part = scopes[at : at + _AT_ONCE]
        pipeline = store.redis.pipeline(transaction=False)
        for scope in part:
            keys = partition_keys(scope)
            pipeline.zcard(keys.ready)
            pipeline.zrange(keys.ready, 0, 0, withscores=True)
            pipeline.hmget(keys.meta, TIME_FIELDS)
        pipeline.time()
        *answers, clock = await store.ask_each(pipeline)
        triples = zip(answers[::3], answers[1::3], answers[2::3], strict=True)
        for scope, (windows, first, noted) in zip(part, triples, strict=True):
            if first and noted is not None:
                now_ms = told(milliseconds(clock), *noted)
                found[scope] = Waiting(int(windows or 0), oldest_ms(first, now_ms))
    return found


async def _with_ready(store: Store, scopes: Sequence[Scope]) -> list[Scope]:
    """Those partitions in which any window is ready: of many quiet ones, few questions."""
    found: list[Scope] = []
    for at in range(0, len(scopes), _AT_ONCE):
        part = scopes[at : at + _AT_ONCE]
        pipeline = store.redis.pipeline(transaction=False)
        for scope in part:
            pipeline.exists(partition_keys(scope).ready)
        answers = await store.ask_each(pipeline)
        found += [scope for scope, is_there in zip(part, answers, strict=True) if is_there]
    return found


def oldest_ms(first: Sequence[tuple[bytes, float]], now_ms: int) -> int:
    """How long the first window of ``ready`` could have been taken; 0 where there is none.

    Args:
        first: its name and its time, as Redis has them.
        now_ms: the partition's time.
    """
    return max(0, now_ms - int(first[0][1])) if first else 0


async def overdue_ms(store: Store) -> int:
    """How long ago beat should have looked at the partition that is due first; 0 when none is.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    now_ms = await store.now_ms(CLOCK)
    pipeline = store.redis.pipeline(transaction=False)
    pipeline.zrange(DUE, 0, 0, withscores=True)
    [first] = await store.ask_each(pipeline)
    return oldest_ms(first or [], now_ms)
