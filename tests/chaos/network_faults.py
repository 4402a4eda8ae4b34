"""Faults of the network, to each server for each purpose by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from tests.chaos.faults import Fault, World
from tests.chaos.proxy import TcpProxy, Weather


def weather(kind: Weather) -> Callable[[World], AbstractAsyncContextManager[str]]:
    """One connection's network is like this for a while."""

    @asynccontextmanager
    async def breaks(world: World) -> AsyncIterator[str]:
        proxy = _any_proxy(world)
        proxy.change(kind, delay_s=world.random.uniform(0.02, 0.3))
        try:
            yield proxy.name
        finally:
            proxy.change("clear")

    return breaks


@asynccontextmanager
async def reset(world: World) -> AsyncIterator[str]:
    """All connections of one kind are reset once."""
    proxy = _any_proxy(world)
    proxy.reset()
    yield proxy.name


def _any_proxy(world: World) -> TcpProxy:
    return world.site.proxies[world.random.choice(sorted(world.site.proxies))]


NETWORK_FAULTS = (
    Fault("network stalls", weather("stalled"), 3.0, 0.5, 5.0),
    Fault("network drops", weather("dropping"), 2.0, 0.5, 4.0),
    Fault("network is cut", weather("refusing"), 3.0, 0.2, 4.0),
    Fault("network is slow", weather("slow"), 2.0, 0.5, 3.0),
    Fault("connections are reset", reset, 3.0),
)
