"""Connections to Redis whose commands hiredis writes."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.connection import AbstractConnection


class PackedByHiredis:
    """Has commands written by hiredis: redis-py reads answers with it, and leaves it at that where
    it is asynchronous."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """A command as it is sent. One of several words begins with all of them in one text."""
        first = args[0].encode() if isinstance(args[0], str) else args[0]
        return [hiredis.pack_command((*first.split(), *args[1:]))]


class _QuickConnection(PackedByHiredis, Connection):
    pass


class _QuickTlsConnection(PackedByHiredis, SSLConnection):
    pass


QUICK: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _QuickConnection,
    SSLConnection: _QuickTlsConnection,
}
"""By the class of redis-py that does the same."""
