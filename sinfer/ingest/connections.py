"""The NATS connections of an ingestor: one for all partitions that read from the same place."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial

from nats.aio.client import Client

from sinfer.config.jetstream_place import NatsPlace
from sinfer.logging.troubles import Troubles
from sinfer.nats.connection import Notices, connect


class Connections:
    """Connects when a partition first needs it, and stays connected.

    Args:
        name: shown by the servers' monitoring.
        reconnected: is called whenever a connection was made again.
        troubles: those of the ingestor.
    """

    def __init__(self, name: str, reconnected: Callable[[], None], troubles: Troubles) -> None:
        self._troubles = troubles
        self._name = name
        self._reconnected = reconnected
        self._clients: dict[NatsPlace, Client] = {}
        self._connecting: defaultdict[NatsPlace, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def to(self, place: NatsPlace) -> Client:
        """The connection to a place.

        Raises:
            UnavailableError: none of its servers answers. Others are not held up meanwhile.
        """
        async with self._connecting[place]:
            known = self._clients.get(place)
            if known is None or known.is_closed:
                known = await connect(
                    place,
                    name=self._name,
                    notices=Notices(self._reconnected, self._forbidden, partial(self._lost, place)),
                )
                self._clients[place] = known
        return known

    def _forbidden(self, said: str) -> None:
        """The server says so with each request that is forbidden, and not when that is over."""
        text = f"{said}; docs/security.md lists what sinfer needs"
        self._troubles.tell("", said, text, level=logging.ERROR, fades=True)

    def _lost(self, place: NatsPlace, reason: str) -> None:
        """The log has it already."""
        what = f"connection to {place}"
        if reason:
            self._troubles.tell("", what, reason, level=None)
        else:
            self._troubles.over("", what)

    async def aclose(self) -> None:
        """Close all of them."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
