"""Asking whether what was stored is on Redis' disk, for a partition that nobody writes."""

from __future__ import annotations

from sinfer.store.durability import Durability
from sinfer.store.partition.writer import PartitionWriter
from sinfer.windows.ids import Scope


async def written(durability: Durability) -> None:
    """Wait until all that was stored before is on the disk, as acknowledgements do."""
    writer = PartitionWriter(
        durability._store, Scope("p", "nobody", ">"), owner="me", lease_ms=1000
    )
    assert await durability.has(writer, 0)
