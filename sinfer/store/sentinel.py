"""Connections to the primary that Sentinels name, also after a failover."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.exceptions import RedisError

from sinfer.config.sentinel_url import SentinelUrl

_LOOK_S = 0.5
"""How often the Sentinels are asked, while connections are taken."""


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary of the moment. Who wants one waits while all are in use.

    Each new connection asks the Sentinels where the primary is, and so does the pool itself now and
    then: a primary that is replaced takes writes for a moment longer, and those are lost. Once
    another is known, no connection to the one before is used again: those that are idle are closed
    at once, and those in use when they come back.

    Args:
        url: tells of the Sentinels.
        options: of the connections, those for TLS included.
        sentinel_options: of connections to the Sentinels, likewise.
        kind: of the connections.
        most, timeout_s: connections at most, and how long to wait for one.
    """

    def __init__(
        self,
        url: SentinelUrl,
        options: dict[str, Any],
        sentinel_options: dict[str, Any],
        *,
        kind: type[SentinelManagedConnection],
        most: int,
        timeout_s: float,
    ) -> None:
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            url.sentinels,
            sentinel_kwargs={
                "username": url.sentinel_username,
                "password": url.sentinel_password,
                **sentinel_options,
            },
        )
        super().__init__(  # type: ignore[no-untyped-call]
            url.name,
            sentinels,
            connection_class=kind,
            max_connections=most,
            timeout=timeout_s,
            db=url.database,
            username=url.username,
            password=url.password,
            **options,
        )
        self._sentinels = sentinels
        self._looked_s = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """A connection to the primary, as soon as there is one."""
        if time.monotonic() - self._looked_s >= _LOOK_S and self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="asking Sentinels")
        found: AbstractConnection = await super().get_connection(  # type: ignore[no-untyped-call]
            *args, **options
        )
        return found

    async def _look(self) -> None:
        """Ask whether the primary is another by now."""
        try:
            with suppress(RedisError, OSError):  # a connection that is made asks again
                await self.get_master_address()  # type: ignore[no-untyped-call]
        finally:
            self._looked_s = time.monotonic()
            self._looking = None

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back; one to another than the primary is closed."""
        place = (getattr(connection, "host", None), getattr(connection, "port", None))
        if self.master_address is not None and place != self.master_address:
            await connection.disconnect()
        await super().release(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close connections, those to the Sentinels as well."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            if self._looking is not None:
                self._looking.cancel()
            for sentinel in self._sentinels.sentinels:
                await sentinel.aclose()
                await sentinel.connection_pool.disconnect()
