"""Draining: pulling stops, what is open is closed, and the workers finish."""

from __future__ import annotations

from sinfer.ingest.closing import close_all, planner_of
from sinfer.ingest.handover import stored_spec
from sinfer.ingest.leases import LEASE_MS
from sinfer.products.revisions import Revision
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope


async def close_unattended(store: Store, scope: Scope, owner: str) -> bool:
    """Close the open windows of a partition that no ingestor writes.

    Args:
        store: the window store.
        scope: the partition.
        owner: name of who does this, unique among all writers.

    Returns:
        Whether they are closed: False when an ingestor writes the partition, and so does it, or
        when the store does not know how its windows are cut.

    Raises:
        StaleTokenError: an ingestor was quicker; try again.
    """
    writer = PartitionWriter(store, scope, owner=owner, lease_ms=LEASE_MS)
    if await writer.acquire():
        return False
    try:
        state = await writer.load()
        if not state.config:
            return not state.windows
        revision = Revision.unpack(state.config)
        planner = planner_of(scope, state, stored_spec(revision))
        source, alone = state.source or b"", PartitionSettings(alone=scope)
        await close_all(
            planner,
            revision.meaning,
            lambda plan: writer.commit(Commit(plan, source), settings=alone),
        )
    finally:
        await writer.release()
    await Schedule(store).announce(scope)
    return True
