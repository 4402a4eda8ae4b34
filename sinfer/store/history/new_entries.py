"""What was given up and what ended lately, each entry once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


_AT_ONCE = 200


class RecentEntries:
    """Entries that were not given out yet, dead letters and ledger entries as they are stored.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, str] = {}

    async def letters(self, scope: Scope) -> list[bytes]:
        """Dead letters of a partition."""
        return await self._new(PartitionKeys(scope).dead, b"letter")

    async def finished(self, scope: Scope) -> list[bytes]:
        """Ledger entries of a partition."""
        return await self._new(PartitionKeys(scope).ledger, b"entry")

    async def _new(self, stream: str, field: bytes) -> list[bytes]:
        start = self._read.get(stream, "-")
        page = await self._store.ask(self._store.redis.xrange(stream, start, "+", count=_AT_ONCE))
        if page:
            self._read[stream] = f"({page[-1][0].decode()}"
        return [fields.get(field, b"") for _, fields in page]
