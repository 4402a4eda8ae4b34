"""The dead letters of all partitions: find, count, remove, trim."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from sinfer.store.keys import COPIED_FIELD, PartitionKeys
from sinfer.store.schedule import Schedule
from sinfer.windows.dead_letters import DeadLetter, Stage, pack_dead_letter, unpack_dead_letter
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_PAGE = 100
"""Letters read at once: each may be as large as a message."""

TRIM_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter and where it is.

    Attributes:
        scope: the partition.
        entry: its name in the partition's stream of dead letters, ``milliseconds-number``.
        letter: the dead letter.
        size: bytes of it as it is stored.
    """

    scope: Scope
    entry: str
    letter: DeadLetter
    size: int

    @property
    def id(self) -> str:
        """Its name among the dead letters of all partitions."""
        return f"{self.entry}-{_mark(self.scope)}"

    @property
    def stored_ms(self) -> int:
        """When it was stored, milliseconds since the epoch by the store's clock."""
        return int(self.entry.partition("-")[0])


def _mark(scope: Scope) -> str:
    """Tells partitions apart in the ids of dead letters."""
    return blake2b(str(scope).encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are meant: those that everything given here is true of.

    Attributes:
        product, task, partition, stage, window: exactly this.
        text: is part of the error, in upper or lower case.
        since_ms, until_ms: stored within ``[since, until)``, milliseconds since the epoch.
        first_seq, last_seq: stream sequences, inclusive.
        ids: one of these.
    """

    product: str | None = None
    task: str | None = None
    partition: str | None = None
    stage: Stage | None = None
    window: str | None = None
    text: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    ids: frozenset[str] = field(default_factory=frozenset)

    def covers(self, scope: Scope) -> bool:
        """Whether letters of a partition may be meant."""
        wanted = (self.product, self.task, self.partition)
        if any(part is not None and part != of for part, of in zip(wanted, scope, strict=True)):
            return False
        return not self.ids or any(name.endswith(f"-{_mark(scope)}") for name in self.ids)

    def matches(self, stored: StoredLetter) -> bool:
        """Whether this letter is meant."""
        letter = stored.letter
        seq = letter.message.stream_seq
        return (
            self.covers(stored.scope)
            and (not self.ids or stored.id in self.ids)
            and self.stage in (None, letter.stage)
            and self.window in (None, letter.window)
            and (self.text is None or self.text.lower() in letter.error.lower())
            and (self.since_ms is None or stored.stored_ms >= self.since_ms)
            and (self.until_ms is None or stored.stored_ms < self.until_ms)
            and (self.first_seq is None or seq >= self.first_seq)
            and (self.last_seq is None or seq <= self.last_seq)
        )


class DeadLetterStore:
    """Reads and removes dead letters, whoever ingests or works at the same time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def scopes(self, wanted: LetterFilter) -> list[Scope]:
        """The partitions that may have such letters."""
        return [s for s in await Schedule(self._store).partitions() if wanted.covers(s)]

    async def copied(self, scope: Scope) -> str:
        """The last entry of which a copy was sent; empty when none was."""
        meta = PartitionKeys(scope).meta
        found = await self._store.ask(self._store.redis.hget(meta, COPIED_FIELD))
        return (found or b"").decode()

    async def note_copied(self, scope: Scope, entry: str) -> None:
        """Copies were sent of all entries up to this one."""
        meta = PartitionKeys(scope).meta
        await self._store.ask(self._store.redis.hset(meta, COPIED_FIELD, entry))

    async def count(self, scope: Scope) -> int:
        """How many dead letters a partition has."""
        return int(await self._store.ask(self._store.redis.xlen(PartitionKeys(scope).dead)))

    async def size(self, scope: Scope) -> int:
        """Redis' memory that the dead letters of a partition take, by ``MEMORY USAGE``.

        That is the letters as they are stored (message, headers, reason and history) and what Redis
        needs to hold them. It is exact but for the nodes of Redis' streams: letters of less than 4
        KiB share one, which counts in full until the last of them is removed. Redis goes through
        the nodes and reads no letter: 250 MB of letters take it about 2 ms.
        """
        usage = self._store.redis.memory_usage(PartitionKeys(scope).dead, samples=0)
        return int(await self._store.ask(usage) or 0)

    async def oldest_ms(self, scope: Scope) -> int | None:
        """When the oldest dead letter of a partition was stored; None when it has none."""
        found = await self._store.ask(
            self._store.redis.xrange(PartitionKeys(scope).dead, "-", "+", count=1)
        )
        return int(found[0][0].partition(b"-")[0]) if found else None

    async def find(self, wanted: LetterFilter) -> AsyncGenerator[StoredLetter, None]:
        """The letters that are meant, partition by partition, the oldest first."""
        for scope in await self.scopes(wanted):
            async for stored in self.of_partition(scope, wanted):
                yield stored

    async def last(self, scope: Scope) -> str | None:
        """The latest entry of a partition; None when it has none."""
        name = PartitionKeys(scope).dead
        found = await self._store.ask(self._store.redis.xrevrange(name, "+", "-", count=1))
        return found[0][0].decode() if found else None

    async def of_partition(
        self, scope: Scope, wanted: LetterFilter, *, upto: str = "+"
    ) -> AsyncGenerator[StoredLetter, None]:
        """The letters of one partition that are meant, the oldest first.

        Args:
            scope: the partition.
            wanted: which are meant.
            upto: no entries behind this one.
        """
        first = "-" if wanted.since_ms is None else str(wanted.since_ms)
        async for stored in self.after(scope, first, upto):
            if wanted.until_ms is not None and stored.stored_ms >= wanted.until_ms:
                return
            if wanted.matches(stored):
                yield stored

    async def after(
        self, scope: Scope, first: str, last: str = "+"
    ) -> AsyncGenerator[StoredLetter, None]:
        """All letters of a partition between two entries, the oldest first.

        Args:
            scope: the partition.
            first, last: entries as Redis takes them: ``-``, ``+``, and ``(`` to leave one out.
        """
        name = PartitionKeys(scope).dead
        while True:
            page = await self._store.ask(self._store.redis.xrange(name, first, last, count=_PAGE))
            for entry, fields in page:
                blob = fields.get(b"letter", b"")
                yield StoredLetter(scope, entry.decode(), unpack_dead_letter(blob), len(blob))
            if len(page) < _PAGE:
                return
            first = f"({page[-1][0].decode()}"

    async def discard(self, scope: Scope, entries: Sequence[str], counts: dict[str, int]) -> int:
        """Remove letters of a partition.

        Args:
            scope: the partition.
            entries: the letters.
            counts: changes of the partition's counts for each one that was still there.

        Returns:
            How many were still there.
        """
        keys = PartitionKeys(scope)
        pairs = [word for pair in counts.items() for word in pair]
        return int(
            await self._store.run(
                "discard_dead_letters",
                [keys.meta, keys.dead],
                [len(counts), *pairs, *entries],
                asked=keys.asked(uuid.uuid4().hex),
            )
        )

    async def purge(self, scope: Scope, entries: Sequence[str]) -> int:
        """Remove letters for good. The account keeps them as dead."""
        return await self.discard(scope, entries, {"purged": 1})

    async def replace(self, stored: StoredLetter, letter: DeadLetter) -> bool:
        """Put another letter in the place of one; False when that is not there any more."""
        keys = PartitionKeys(stored.scope)
        return bool(
            await self._store.run(
                "replace_dead_letter",
                [keys.meta, keys.dead],
                [stored.entry, pack_dead_letter(letter)],
                asked=keys.asked(uuid.uuid4().hex),
            )
        )

    async def trim(
        self,
        scope: Scope,
        *,
        most: int | None,
        since_ms: int | None,
        excess_bytes: int = 0,
        upto: str = "+",
    ) -> int:
        """Remove the oldest letters above so many, those from before a time, and so many bytes.

        Args:
            scope: the partition.
            most: how many letters stay; None for any number.
            since_ms: older ones go, milliseconds since the epoch; None for no age.
            excess_bytes: the oldest go until these are removed.
            upto: later entries than this stay in any case.

        Returns:
            How many were removed: at most 1,000 in one call. They are counted as trimmed.
        """
        excess = 0 if most is None else await self.count(scope) - most
        entries: list[str] = []
        size = 0
        async with aclosing(self.after(scope, "-", upto)) as letters:
            async for stored in letters:
                is_old = since_ms is not None and stored.stored_ms < since_ms
                is_above = len(entries) < excess or size < excess_bytes
                if len(entries) >= TRIM_AT_ONCE or not (is_old or is_above):
                    break
                entries.append(stored.entry)
                size += stored.size
        return await self.discard(scope, entries, {"trimmed": 1}) if entries else 0
