"""Which partitions a task has had, and how far those were read that it has no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store import keys

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_LIVE = "live "


@dataclass(frozen=True, slots=True)
class Marks:
    """What is noted of the partitions of a task.

    Attributes:
        live: subjects of those that were opened and not given up.
        read: checkpoints of those that were given up, by subject. What one says stays true: up to
            there, all was read.
    """

    live: frozenset[str]
    read: dict[str, bytes]


class ReadMarks:
    """The marks of one task.

    All of it raises ``UnavailableError`` when Redis cannot be reached, and ``StoreFullError`` when
    it takes nothing more.

    Args:
        store: the window store.
        product, task: the task.
    """

    def __init__(self, store: Store, product: str, task: str) -> None:
        self._store = store
        self._key = keys.read_marks(product, task)

    async def see(self) -> Marks:
        """All of them."""
        found = await self._store.ask(self._store.redis.hgetall(self._key))
        fields = {field.decode(errors="replace"): value for field, value in found.items()}
        live = {field.removeprefix(_LIVE) for field in fields if field.startswith(_LIVE)}
        read = {field: value for field, value in fields.items() if not field.startswith(_LIVE)}
        return Marks(frozenset(live), read)

    async def open(self, subject: str) -> None:
        """A partition is about to be read."""
        await self._store.ask(self._store.redis.hset(self._key, f"{_LIVE}{subject}", "1"))

    async def give_up(self, subject: str, checkpoint: bytes | None) -> None:
        """A partition is read no more.

        Args:
            subject: of the partition.
            checkpoint: how far it was read; None where it never was.
        """
        pipeline = self._store.redis.pipeline(transaction=True)
        if checkpoint:
            pipeline.hset(self._key, subject, checkpoint)
        pipeline.hdel(self._key, f"{_LIVE}{subject}")
        await self._store.ask(pipeline.execute())

    async def forget(self, *subjects: str) -> None:
        """These are to be read from the start again; by default, all of the task's."""
        redis = self._store.redis
        await self._store.ask(
            redis.hdel(self._key, *subjects) if subjects else redis.unlink(self._key)
        )
