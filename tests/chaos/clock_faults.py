"""Faults of clocks: the wall clock of a process jumps while it runs, and stays wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.faults import Fault, World

_LARGEST_JUMP_S = 600.0


@asynccontextmanager
async def jumps(world: World) -> AsyncIterator[str]:
    """As when someone sets it, or after a long sleep. Nobody sets it right afterwards."""
    service = world.random.choice(world.site.services)
    by_s = world.random.uniform(-_LARGEST_JUMP_S, _LARGEST_JUMP_S)
    now_s = world.site.clocks[service.name].jump(by_s)
    yield f"{service.name} by {by_s:+.0f} s, to {now_s:+.0f} s"


@asynccontextmanager
async def redis_goes_back(world: World) -> AsyncIterator[str]:
    """Redis' clock goes back by up to an hour, as after a failover, and is right again later."""
    clock = world.site.redis.clock
    if clock is None:
        yield "not without a C compiler"
        return
    by_s = -world.random.uniform(30.0, 3600.0)
    clock.jump(by_s)
    try:
        yield f"by {by_s:.0f} s"
    finally:
        clock.jump(-by_s)


CLOCK_FAULTS = (Fault("clock: jumps", jumps, 2.0),)
REDIS_CLOCK_FAULTS = (Fault("clock: Redis goes back", redis_goes_back, 2.0, 1.0, 6.0),)
