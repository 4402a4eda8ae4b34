"""Which messages a partition is about: its stream as it was made, and how often it was started.

A stream that is deleted and made again counts its messages from 1 once more, and a task that is
started over reads the same ones again. Windows and messages then have the ids that others had
before. The incarnation tells them apart wherever ids meet: in sinks, dead letters and the ledger.

It is the checksum of the stream's name and of the time it was made, so that it is the same after
Redis was wiped. Where a partition was started more than once, the number of the start follows:
``k3j5n2qd``, ``k3j5n2qd.1``. The number is kept in Redis, where it outlives the partition, and in
the settings of a durable consumer, where it outlives Redis.
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import blake2b
from typing import TYPE_CHECKING

from sinfer.store.keys import STARTS
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


def incarnation_of(stream: str, created: str, start: int = 0) -> str:
    """The incarnation of a partition.

    Args:
        stream: name of the stream.
        created: when the stream was made, as its server writes it.
        start: how often the partition was started before.
    """
    name = f"{stream}\0{created}".encode("utf-8", "surrogatepass")
    checksum = b32encode(blake2b(name, digest_size=5).digest()).decode().lower()
    return f"{checksum}.{start}" if start else checksum


def number_of_start(incarnation: str) -> int:
    """How often a partition was started before, as its incarnation says."""
    return int(incarnation.partition(".")[2] or 0)


def is_of_stream(incarnation: str, stream: str, created: str) -> bool:
    """Whether an incarnation is one of that stream."""
    return incarnation.partition(".")[0] == incarnation_of(stream, created)


class Starts:
    """How often each partition was started. Outlives what else is stored of it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def next(self, scope: Scope) -> int:
        """The number of the next start: 0 for a partition that was never heard of."""
        known = await self._store.ask(self._store.redis.hget(STARTS, str(scope)))
        return 0 if known is None else int(known) + 1

    async def note(self, scope: Scope, start: int) -> None:
        """A partition goes on under the start of this number. Only its writer may say so."""
        redis = self._store.redis
        known = await self._store.ask(redis.hget(STARTS, str(scope)))
        if known is None or int(known) < start:
            await self._store.ask(redis.hset(STARTS, str(scope), str(start)))
