"""Reading the time of the store as it is noted; ``prelude.lua`` says what that is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sinfer.windows.keys import CLOCK
from sinfer.windows.store import Store

TIME_FIELDS = ("time", "time_from")
"""Fields of a group's hash: the highest time told, and from where it goes on when ahead."""

_FROM = re.compile(rb"(\d+) (\d+)")


@dataclass(frozen=True, slots=True)
class StoreTime:
    """What time it is.

    Attributes:
        now_ms: by the store, milliseconds since the epoch.
        redis_ms: by Redis' clock.
    """

    now_ms: int
    redis_ms: int

    @property
    def ahead_ms(self) -> int:
        """How far the store is ahead: Redis' clock went back by so much, or had been wrong."""
        return self.now_ms - self.redis_ms


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


async def store_time(store: Store, clock: str = CLOCK) -> StoreTime:
    """What time it is for a group of keys.

    Args:
        store: the window store.
        clock: as for ``Store.now_ms``.
    """
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.time()
    pipeline.hmget(clock, TIME_FIELDS)
    (seconds, microseconds), fields = await store.ask(pipeline.execute())
    redis_ms = int(seconds) * 1000 + int(microseconds) // 1000
    return StoreTime(told(redis_ms, *fields), redis_ms)
