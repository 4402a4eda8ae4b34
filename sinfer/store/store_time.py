"""Reading the time of the store as it is noted; ``prelude.lua`` says what that is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import CLOCK, PartitionKeys
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

TIME_FIELDS = ("time", "time_from")
"""Fields of a group's hash: the highest time told, and from where it goes on when ahead."""

_FROM = re.compile(rb"(\d+) (\d+)")


_CLOCKS_DIFFER_MS = 1_000


@dataclass(frozen=True, slots=True)
class StoreTime:
    """What time it is.

    Attributes:
        now_ms: by the store, milliseconds since the epoch.
        redis_ms: by Redis' clock.
        host_ms: by the clock of this machine, in the middle of the question.
    """

    now_ms: int
    redis_ms: int
    host_ms: int = 0

    @property
    def ahead_ms(self) -> int:
        """How far the store is ahead: Redis' clock went back by so much, or had been wrong."""
        return self.now_ms - self.redis_ms

    @property
    def problems(self) -> list[str]:
        """What is wrong with the clocks, and the remedy; none where they agree."""
        found = []
        if self.ahead_ms > _CLOCKS_DIFFER_MS:
            found.append(
                f"the store's time is {self.ahead_ms / 1000:.0f} s ahead of Redis' clock, which"
                " went back or had been wrong: windows, leases and retries go on by the store's"
                " time, of which seven seconds take eight until they agree; keep Redis' host in"
                " time (NTP)"
            )
        differ_ms = self.redis_ms - self.host_ms
        if abs(differ_ms) > _CLOCKS_DIFFER_MS:
            found.append(
                f"Redis' clock is {abs(differ_ms) / 1000:.0f} s"
                f" {'ahead of' if differ_ms > 0 else 'behind'} the clock of this machine; set the"
                " one that is wrong (NTP)"
            )
        return found


def told(redis_ms: int, highest: bytes | None, going_on: bytes | None) -> int:
    """The time of a group of keys (ms), as a script would tell it.

    Args:
        redis_ms: Redis' clock.
        highest, going_on: its ``TIME_FIELDS``.
    """
    now_ms = redis_ms
    if going_on and (match := _FROM.fullmatch(going_on)):
        from_ms, then_ms = (int(number) for number in match.groups())
        if redis_ms > from_ms:
            passed_ms = redis_ms - from_ms
            counts_ms = 5_000 if passed_ms > 60_000 else passed_ms
            now_ms = max(redis_ms, then_ms + counts_ms * 7 // 8)
    return max(now_ms, int(highest or 0))


def milliseconds(clock: tuple[int, int]) -> int:
    """What ``TIME`` answers, as milliseconds since the epoch."""
    seconds, microseconds = clock
    return int(seconds) * 1000 + int(microseconds) // 1000


async def store_time(store: Store, key: str = CLOCK) -> StoreTime:
    """What time it is for a group of keys.

    Args:
        store: the window store.
        key: as for ``Store.now_ms``.
    """
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.time()
    pipeline.hmget(key, TIME_FIELDS)
    asked_ns, began_ns = time.time_ns(), time.monotonic_ns()
    clock, fields = await store.ask(pipeline.execute())
    redis_ms = milliseconds(clock)
    host_ns = asked_ns + (time.monotonic_ns() - began_ns) // 2
    return StoreTime(told(redis_ms, *fields), redis_ms, host_ns // 1_000_000)


async def partition_now_ms(store: Store, scope: Scope) -> int:
    """The time of a partition, milliseconds since the epoch; see ``Store.now_ms``."""
    return await store.now_ms(PartitionKeys(scope).meta)
