"""What is in the segments of a partition's windows, and what should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.work.contents import members_fields, read_chunk, read_members
from sinfer.windows.ids import Scope
from sinfer.windows.records import Part

if TYPE_CHECKING:
    from sinfer.store.connection import Store


Members = dict[int, list[int]]
"""Stream sequences by the place of their chunk, from 1, packed as in the ledger."""


class Segments:
    """The segments of one partition. A key of another kind counts as empty.

    All of it raises ``UnavailableError`` when Redis cannot be reached.

    Args:
        store: the window store.
        scope: the partition.
    """

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._keys = PartitionKeys(scope)

    async def chunks(self, segment: str, chunks: int) -> list[bytes]:
        """The first chunks of a segment, as they are stored."""
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.lrange(self._keys.segment(segment), 0, max(0, chunks - 1))
        [found] = await self._store.ask_each(pipeline)
        return found or []

    async def members(self, segment: str, chunks: int) -> Members:
        """Which messages should be in the first chunks of a segment."""
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.hmget(self._keys.members, members_fields(segment, chunks))
        [values] = await self._store.ask_each(pipeline)
        return read_members(values or [])

    async def both(self, segment: str, chunks: int) -> tuple[list[bytes], Members]:
        """The chunks, and which messages should be in them, in one round trip."""
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.lrange(self._keys.segment(segment), 0, max(0, chunks - 1))
        pipeline.hmget(self._keys.members, members_fields(segment, chunks))
        found, values = await self._store.ask_each(pipeline)
        return found or [], read_members(values or [])

    async def members_of_all(self, segment: str) -> Members:
        """Which messages should be in a segment, as far as its first field says."""
        value = await self._store.ask(self._store.redis.hget(self._keys.members, segment))
        return read_members([value])

    async def messages_in(self, segment: str) -> int:
        """How many messages a segment has, as far as that can be told."""
        chunks = await self._store.ask(self._store.redis.lrange(self._keys.segment(segment), 0, -1))
        return sum(len(read_chunk(chunk) or ()) for chunk in chunks)

    async def gone(self, parts: Sequence[Part]) -> list[set[int]]:
        """The places of chunks that are gone, from 1, for each part; nothing is read for that."""
        pipeline = self._store.redis.pipeline(transaction=True)
        for part in parts:
            pipeline.llen(self._keys.segment(part.segment))
            pipeline.lpos(self._keys.segment(part.segment), "", count=0)
        answers = iter(await self._store.ask_each(pipeline))
        found = []
        for part in parts:
            length, empty = next(answers) or 0, next(answers) or []
            gone = {place + 1 for place in empty if place < part.chunks}
            found.append(gone | set(range(length + 1, part.chunks + 1)))
        return found
