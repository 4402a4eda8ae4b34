"""A stream, and a partition that was read from it: what operations look at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.ingest.entries import Preparer
from sinfer.nats.stream_messages import StreamMessages
from sinfer.operations.rebuild import find_aside, rebuild
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.store.connection import Store
from sinfer.store.history.ledger import pack_entry
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from sinfer.worker.attempts import Timings
from sinfer.worker.process import ledger_entry
from tests.support.task_settings import task_of


class Keyed(InferPipeline[InferTaskConfig, dict[str, Any]]):
    def preprocess(self, message: Message) -> dict[str, Any] | None:
        item = json.loads(message.data)
        return None if item["id"] % 7 == 0 else item

    def key(self, item: dict[str, Any]) -> str:
        return "ab"[item["id"] % 2]

    def event_time(self, item: dict[str, Any]) -> float:
        return float(item["id"])

    def build_request(self, window: Window[dict[str, Any]]) -> Any:
        return None

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        return []


class Site:
    """A stream, and a partition that was read from it."""

    def __init__(self, store: Store, client: Client, name: str, window: dict[str, Any]) -> None:
        self.store = store
        self.redis: Any = store.redis
        self.client = client
        self.name = name
        self.scope = Scope("p", name, f"{name}.in")
        task = task_of(name, source={"stream": name, "subject": f"{name}.in"}, window=window)
        self.pipeline = Keyed(task)
        self.claims = PartitionClaims(store, self.scope)
        self.keys = self.claims.keys

    async def read(self, count: int, batch: int = 5) -> None:
        """Publish messages, and put them into windows as an ingestor does."""
        jetstream = self.client.jetstream()
        await jetstream.add_stream(name=self.name, subjects=[f"{self.name}.>"])
        await jetstream.publish(f"{self.name}.other", b"{}")
        for number in range(count):
            await jetstream.publish(f"{self.name}.in", json.dumps({"id": number}).encode())
        messages = StreamMessages(self.client, self.name)
        created = (await messages.api.stream_info()).created
        writer = PartitionWriter(self.store, self.scope, owner="w", lease_ms=60_000)
        await writer.acquire()
        await writer.load()
        planner = make_planner(self.pipeline.task.window, self.scope.window_prefix)
        for first in range(0, count, batch):
            seqs = range(first + 2, min(first + batch, count) + 2)
            prepared = Preparer(self.pipeline).prepare(await messages.get_all(seqs), 10**12)
            plan = planner.plan(prepared.entries, 10**13)
            counts = {"fetched": len(seqs), "filtered": prepared.filtered, "late": len(plan.late)}
            state = pack_checkpoint(Checkpoint(created, seqs[-1]))
            await writer.commit(Commit(plan, state, counts=counts))
            planner.apply(plan)
        plan = planner.close_all("drain")
        await writer.commit(Commit(plan, pack_checkpoint(Checkpoint(created, count + 1))))

    async def process(self) -> set[int]:
        """What workers process of it now."""
        claims, _ = await self.claims.claim(1000, lease_ms=60_000)
        seen = set()
        for claim, messages in await self.claims.whole(claims):
            seen |= {message.stream_seq for message in messages}
            await self.claims.complete([Completion(claim, {"sunk": len(messages)})])
        return seen

    async def lose(self, *names: str) -> None:
        """Delete all segments, and further keys."""
        pattern = self.keys.segment("*").replace("{", "[{]", 1)
        await self.redis.delete(*await self.redis.keys(pattern), *names)

    async def rebuild_all(self) -> None:
        for aside in await find_aside(self.store, [self.scope]):
            assert await rebuild(self.store, self.client, aside, self.pipeline)


WINDOWS: dict[str, dict[str, Any]] = {
    "count": {"type": "count", "count": 4},
    "tumbling": {"type": "tumbling", "size": "6s", "time": "event"},
    "sliding": {"type": "sliding", "size": "6s", "slide": "2s", "time": "event"},
    "updated": {
        "type": "tumbling", "size": "6s", "time": "event", "late": "update",
        "allowed_lateness": "1h",
    },
    "session": {"type": "session", "gap": "3s", "time": "event"},
}  # fmt: skip

EXPECTED = {number + 2 for number in range(20) if number % 7}


async def process(
    site: Site, limit: int = 1000, ledger: int = 100, sinks: Sequence[str] = ("log-0",)
) -> None:
    """Process windows as workers do, with entries in the ledger."""
    claims, _ = await site.claims.claim(limit, lease_ms=60_000)
    for claim, messages in await site.claims.whole(claims):
        entry = pack_entry(ledger_entry(claim, messages, "m", 0, Timings(), sinks))
        counts = {"sunk": len(messages), "windows": 1}
        await site.claims.complete([Completion(claim, counts, (), entry, ledger)])
