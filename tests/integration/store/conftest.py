"""A store, a partition, and what one does with them again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit, Committed
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.support.window_reference import Item, window_spec


class Partition:
    """One partition with its writer, planner and claims."""

    def __init__(
        self, store: Store, scope: Scope, partitions: Sequence[Scope] = (), **spec: Any
    ) -> None:
        self.store = store
        self.scope = scope
        self.planner = make_planner(window_spec(**spec), scope.window_prefix)
        self.writer = PartitionWriter(
            store, scope, owner="a", lease_ms=60_000, partitions=partitions
        )
        self.claims = PartitionClaims(store, scope)

    async def take(self, items: Sequence[Item], now: int = 0) -> Committed:
        """Commit one batch."""
        if self.writer.token == 0:
            assert await self.writer.acquire() == 0
        plan = self.planner.plan([item.entry for item in items], now)
        counts = {"fetched": len(items), "late": len(plan.late)}
        committed = await self.writer.commit(Commit(plan, b"", counts=counts))
        self.planner.apply(plan)
        return committed

    async def idle(self) -> Committed:
        """Commit that the source is idle."""
        plan = self.planner.close_all("idle")
        committed = await self.writer.commit(Commit(plan, b"", idle=True))
        self.planner.apply(plan)
        return committed

    async def drain(self) -> Committed:
        """Close everything."""
        plan = self.planner.close_all("drain")
        committed = await self.writer.commit(Commit(plan, b""))
        self.planner.apply(plan)
        return committed

    async def claim(self, limit: int = 1000) -> list[Claim]:
        claims, _ = await self.claims.claim(limit, lease_ms=60_000)
        while self.claims.suspected:
            claims += (await self.claims.claim(1, lease_ms=60_000, alone=True))[0]
        return claims

    async def complete(self, claims: Sequence[Claim]) -> None:
        """End windows whose messages all went into the sinks."""
        completions = [Completion(claim, {"sunk": claim.window.record.count}) for claim in claims]
        assert all(await self.claims.complete(completions))

    async def keys_left(self) -> set[str]:
        """Kinds of the keys that exist, beside the answers that claims keep for a while."""
        redis, base = self.store.redis, self.writer.keys.meta.removesuffix("meta")
        names = [key.decode() async for key in redis.scan_iter(count=10_000)]
        kinds = {name.removeprefix(base).split(":")[0] for name in names if name.startswith(base)}
        return kinds - {"ask"}
