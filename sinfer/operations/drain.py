"""Draining: pulling stops, what is open is closed, and the workers finish."""

from __future__ import annotations

from dataclasses import dataclass

from sinfer.ingest.handover import stored_spec
from sinfer.ingest.leases import LEASE_MS
from sinfer.products.revisions import Revision
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.schedule import Schedule
from sinfer.store.time import store_time
from sinfer.store.writer import Commit, PartitionWriter
from sinfer.windows.ids import Scope
from sinfer.windows.planners import make_planner


@dataclass(frozen=True, slots=True)
class Left:
    """Windows of a partition that are not done."""

    open: int
    closed: int

    @property
    def windows(self) -> int:
        return self.open + self.closed


async def left_in(store: Store, scope: Scope) -> Left:
    """What a partition still holds."""
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hlen(keys.open)
    pipeline.hlen(keys.closed)
    return Left(*await store.ask(pipeline.execute()))


async def is_drained(store: Store, scope: Scope, since_ms: int) -> bool:
    """Whether nobody puts messages into a partition any more: its ingestor has stopped pulling and
    closed what was open, or there is none.

    Args:
        store: the window store.
        scope: the partition.
        since_ms: when the drain was asked for, which tells it from earlier ones.
    """
    meta = PartitionKeys(scope).meta
    fields = ["owner", "lease_until", "drained"]
    owner, lease_until, drained = await store.ask(store.redis.hmget(meta, fields))
    if int(drained or 0) == since_ms or owner is None:
        return True
    return int(lease_until or 0) <= (await store_time(store, meta)).now_ms


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
        StaleTokenError, WindowConflictError: an ingestor or beat was quicker; try again.
    """
    writer = PartitionWriter(store, scope, owner=owner, lease_ms=LEASE_MS)
    if await writer.acquire():
        return False
    try:
        state = await writer.load()
        if not state.config:
            return not state.windows
        revision = Revision.unpack(state.config)
        planner = make_planner(
            stored_spec(revision),
            scope.prefix_of(state.layout),
            windows=state.windows,
            watermark_ms=state.watermark_ms,
            incarnation=state.incarnation,
            repeats_to=state.repeats_to,
        )
        plan = planner.close_all("drain")
        for window in plan.closed:
            window.record.config = window.record.config or revision.meaning
        await writer.commit(
            Commit(plan, state.source or b""),
            settings={"partitions": str(scope), "idle": "1"},
        )
    finally:
        await writer.release()
    await Schedule(store).announce(scope)
    return True
