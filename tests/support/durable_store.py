"""Asking whether what was stored is on Redis' disk, for a partition that nobody writes."""

from __future__ import annotations

from sinfer.store.durability import Disk
from sinfer.store.partition.writer import PartitionWriter
from sinfer.windows.ids import Scope


async def written(disk: Disk) -> None:
    """Wait until all that was stored before is on the disk, as acknowledgements do."""
    writer = PartitionWriter(disk._store, Scope("p", "nobody", ">"), owner="me", lease_ms=1000)
    assert await disk.has(writer, 0)
