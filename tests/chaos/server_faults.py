"""Faults of the servers: killed and started again on the same data, or frozen."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from sinfer.embedded.servers import EmbeddedServer
from sinfer.errors import UnavailableError
from tests.chaos.faults import Fault, World
from tests.chaos.site import Site

Choose = Callable[[Site], EmbeddedServer]


def killed(choose: Choose) -> Callable[[World], AbstractAsyncContextManager[str]]:
    """SIGKILL to a server; started again afterwards with the data that it had."""

    @asynccontextmanager
    async def breaks(world: World) -> AsyncIterator[str]:
        server = choose(world.site)
        await asyncio.to_thread(server.process.kill)
        try:
            yield server.name
        finally:
            await asyncio.to_thread(server.start)

    return breaks


@asynccontextmanager
async def redis_killed(world: World) -> AsyncIterator[str]:
    """SIGKILL to Redis; started again with the data that it had, and an ``appendfsync`` by chance.

    So it is killed under both policies in one run.
    """
    redis = world.site.redis
    await asyncio.to_thread(redis.process.kill)
    fsync = world.random.choice(["everysec", "always"])
    try:
        yield f"{redis.name}, then appendfsync {fsync}"
    finally:
        await asyncio.to_thread(redis.start)
        with suppress(UnavailableError):
            store = world.progress.store
            await store.ask(store.redis.config_set("appendfsync", fsync))


def frozen(choose: Choose) -> Callable[[World], AbstractAsyncContextManager[str]]:
    """SIGSTOP to a server, whose connections stay, and SIGCONT afterwards."""

    @asynccontextmanager
    async def breaks(world: World) -> AsyncIterator[str]:
        process = choose(world.site).process
        process.signal(signal.SIGSTOP)
        try:
            yield process.name
        finally:
            process.signal(signal.SIGCONT)

    return breaks


SERVER_FAULTS = (
    Fault("kill Redis", redis_killed, 2.0, 0.0, 2.0),
    Fault("kill NATS", killed(lambda site: site.nats), 2.0, 0.0, 2.0),
    Fault("kill the model server", killed(lambda site: site.model), 1.0, 0.0, 3.0),
    Fault("freeze Redis", frozen(lambda site: site.redis), 1.0, 0.5, 5.0),
    Fault("freeze NATS", frozen(lambda site: site.nats), 1.0, 0.5, 5.0),
)
