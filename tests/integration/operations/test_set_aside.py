"""Windows that lost messages are made whole from the stream, or say why they cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nats.aio.client import Client

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.errors import LostPositionError, SourceError
from sinfer.ingest.entries import Preparer
from sinfer.nats.stream_messages import StreamMessages
from sinfer.operations.audit import audit
from sinfer.operations.rebuild import find_aside, rebuild
from sinfer.operations.status import standing
from sinfer.source.checkpoint import SourceState, pack_state
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner

pytestmark = pytest.mark.integration


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
        task = InferTaskConfig.model_validate(
            {
                "id": name,
                "source": {"stream": name, "subject": f"{name}.in"},
                "window": window,
                "inference": {"type": "python", "call": "json:dumps"},
                "sinks": [{"type": "log"}],
            }
        )
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
            state = pack_state(SourceState(created, seqs[-1]))
            await writer.commit(Commit(plan, state, counts=counts))
            planner.apply(plan)
        plan = planner.close_all("drain")
        await writer.commit(Commit(plan, pack_state(SourceState(created, count + 1))))

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


@pytest.mark.parametrize("kind", WINDOWS)
async def test_lost_segments_are_read_from_the_stream_again(
    store: Store, nats_client: Client, unique: str, kind: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS[kind])
    await site.read(20)
    await site.lose()
    assert await site.process() == set()
    [found] = await audit(store, [site.scope])
    assert found.account.missing == len(EXPECTED)
    gone = {seq for damaged in found.damaged for seq in damaged.damage.sequences}
    assert gone == EXPECTED
    [task] = await standing(store, [site.scope])
    assert any("set aside" in trouble and "rebuild" in trouble for trouble in task.trouble)

    await site.rebuild_all()
    assert await site.process() == EXPECTED
    [found] = await audit(store, [site.scope])
    assert found.is_right, found.problems
    assert found.account.sunk == len(EXPECTED)


async def test_windows_are_rebuilt_even_where_nothing_tells_what_was_in_them(
    store: Store, nats_client: Client, unique: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    await site.lose(site.keys.members)
    assert await site.process() == set()
    await site.rebuild_all()
    assert await site.process() == EXPECTED
    [found] = await audit(store, [site.scope])
    assert found.is_right, found.problems


async def test_what_the_stream_has_no_more_is_refused_and_stays_set_aside(
    store: Store, nats_client: Client, unique: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    await site.lose()
    await site.process()
    await nats_client.jetstream().delete_msg(unique, 3)
    refused = []
    for aside in await find_aside(store, [site.scope]):
        try:
            await rebuild(store, nats_client, aside, site.pipeline)
        except SourceError as error:
            refused.append((aside.damage.sequences, str(error)))
    [(sequences, text)] = refused
    assert 3 in sequences
    assert "messages no more (3)" in text
    assert await site.process() == EXPECTED - set(sequences)
    [found] = await audit(store, [site.scope])
    assert found.account.missing == 4


async def test_messages_of_another_stream_of_that_name_are_refused(
    store: Store, nats_client: Client, unique: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    await site.lose()
    await site.process()
    await nats_client.jetstream().delete_stream(unique)
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    [aside, *_] = await find_aside(store, [site.scope])
    with pytest.raises(SourceError, match="was made anew"):
        await rebuild(store, nats_client, aside, site.pipeline)


async def test_code_that_would_put_a_message_elsewhere_is_refused(
    store: Store, nats_client: Client, unique: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    await site.lose()
    await site.process()

    class Other(Keyed):
        def key(self, item: dict[str, Any]) -> str:
            return "c"

    [aside, *_] = await find_aside(store, [site.scope])
    with pytest.raises(SourceError, match="does not belong to window"):
        await rebuild(store, nats_client, aside, Other(site.pipeline.task))


@pytest.mark.parametrize("field", ["", "source"])
async def test_a_partition_whose_position_is_gone_is_not_read_from_the_start_into_its_windows(
    store: Store, nats_client: Client, unique: str, field: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    if field:
        await site.redis.hdel(site.keys.meta, field, "owner")
    else:
        await site.redis.delete(site.keys.meta)
    writer = PartitionWriter(store, site.scope, owner="next", lease_ms=60_000)
    await writer.acquire()
    with pytest.raises(LostPositionError, match="its position is gone"):
        await writer.load()
    [task] = await standing(store, [site.scope])
    assert any("position is gone" in trouble for trouble in task.trouble)
    [found] = await audit(store, [site.scope])
    assert field or not found.is_right
