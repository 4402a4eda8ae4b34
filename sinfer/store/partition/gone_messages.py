"""Messages of a partition that neither the store nor the stream has any more: they count as missing
until somebody writes them off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sinfer.store.keys import PartitionKeys
from sinfer.types.gone import Gone
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_WRITTEN_OFF = "written off"


class GoneMessages:
    """What is gone of one partition.

    Args:
        store: the window store.
        scope: the partition.
    """

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._key = PartitionKeys(scope).gone

    async def note(self, gone: Iterable[Gone]) -> None:
        """Note what is gone; the same once more changes nothing.

        Raises:
            UnavailableError: it is not noted.
        """
        fields: Any = {one.first: f"{one.last} {one.messages}" for one in gone}
        await self._store.ask(self._store.redis.hset(self._key, mapping=fields))

    async def write_off(self) -> list[Gone]:
        """Count what is gone as missing no longer; returns that.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        gone, _ = gone_in(await self._store.ask(self._store.redis.hgetall(self._key)))
        if gone:
            pipeline = self._store.redis.pipeline(transaction=True)
            pipeline.hdel(self._key, *(str(one.first) for one in gone))
            pipeline.hincrby(self._key, _WRITTEN_OFF, sum(one.messages for one in gone))
            await self._store.ask(pipeline.execute())
        return gone


def gone_in(stored: Mapping[bytes, bytes]) -> tuple[list[Gone], int]:
    """What is stored: what is gone, in the order of the stream, and how many messages were written
    off."""
    fields = {name.decode(): value.decode() for name, value in stored.items()}
    written_off = int(fields.pop(_WRITTEN_OFF, 0))
    gone = [Gone(int(first), *map(int, value.split())) for first, value in fields.items()]
    return sorted(gone, key=lambda one: one.first), written_off
