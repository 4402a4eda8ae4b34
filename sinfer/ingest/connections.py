"""The NATS connections of an ingestor: one for all partitions that name the same servers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from nats.aio.client import Client

from sinfer.nats_connection import connect


class Connections:
    """Connects when a partition first needs it, and stays connected.

    Args:
        name: shown by the servers' monitoring.
        reconnected: is called whenever a connection was made anew.
    """

    def __init__(self, name: str, reconnected: Callable[[], None]) -> None:
        self._name = name
        self._reconnected = reconnected
        self._clients: dict[tuple[str, ...], Client] = {}
        self._connecting: defaultdict[tuple[str, ...], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def to(self, servers: Sequence[str]) -> Client:
        """The connection to these servers.

        Raises:
            UnavailableError: none of them answers. Others are not held up meanwhile.
        """
        key = tuple(servers)
        async with self._connecting[key]:
            known = self._clients.get(key)
            if known is None or known.is_closed:
                known = await connect(servers, name=self._name, reconnected=self._reconnected)
                self._clients[key] = known
        return known

    async def aclose(self) -> None:
        """Close all of them."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
