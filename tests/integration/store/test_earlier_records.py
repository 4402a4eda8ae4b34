"""What an earlier version stored is read, carried on and completed by this one.

``tests/fixtures/records`` has what the code of a commit left in Redis, written by that code: for
each type of window a partition with open and closed windows. Of these one is done, one waits for
its next attempt with its output and a finished sink, one for an attempt that did not count, one was
held by a worker that died, and one is held. Times are those of a clock that stands still.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.operations.audit import audit
from sinfer.operations.locate import Finder
from sinfer.operations.status import standing
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.history.dead_letter_store import DeadLetterStore
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.integration.store.manual_store import START_MS, ManualStore
from tests.support.accounts import read_account
from tests.support.window_reference import Item, window_spec

pytestmark = pytest.mark.integration

FIXTURES = sorted((Path(__file__).parents[2] / "fixtures" / "records").glob("*.jsonl"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def partitions() -> Iterator[Any]:
    for path in FIXTURES:
        for line in lines_of(path):
            if "partition" in line:
                yield pytest.param(
                    path, line["partition"], id=f"{path.stem}-{line['partition']['scope']}"
                )


def value_of(stored: Any) -> Any:
    return base64.b64decode(stored["base64"]) if isinstance(stored, dict) else stored


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server for these records alone: they are under the names that they had."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[ManualStore]:
    store = ManualStore(server.url, "clock:records")
    await store.redis.flushall()
    yield store
    await store.aclose()


async def load(store: ManualStore, path: Path) -> None:
    """Put into Redis what the earlier version left, at the time when it did."""
    redis: Any = store.redis
    for line in lines_of(path):
        if "time_ms" in line:
            await store.advance(line["time_ms"] - START_MS)
        if "key" not in line:
            continue
        key, value = value_of(line["key"]), line["value"]
        match line["type"]:
            case "hash":
                await redis.hset(key, mapping={value_of(k): value_of(v) for k, v in value})
            case "zset":
                await redis.zadd(key, {value_of(k): score for k, score in value})
            case "list":
                await redis.rpush(key, *map(value_of, value))
            case "set":
                await redis.sadd(key, *map(value_of, value))
            case "stream":
                for entry, fields in value:
                    await redis.xadd(key, {value_of(k): value_of(v) for k, v in fields}, id=entry)
            case "string":
                await redis.set(key, value_of(value))


@pytest.mark.parametrize(("path", "left"), list(partitions()))
async def test_it_is_read_carried_on_and_completed(
    store: ManualStore, path: Path, left: dict[str, Any]
) -> None:
    await load(store, path)
    scope = Scope.parse(left["scope"])
    claims = PartitionClaims(store, scope)
    await everything_is_read(store, scope, left)

    await store.advance(120_000)  # leases of the processes of then are over
    writer = PartitionWriter(store, scope, owner="new", lease_ms=600_000)
    assert await writer.acquire() == 0
    state = await writer.load()
    assert Checkpoint.decode(state.source or b"").position == left["last_seq"]
    planner = make_planner(
        window_spec(**left["spec"]),
        scope.window_prefix,
        windows=state.windows,
        watermark_ms=state.watermark_ms,
    )
    items = [Item(left["last_seq"] + n, "a", left["last_time"] + n).entry for n in range(1, 6)]
    source = state.source or b""
    plan = planner.plan(items, store.time_ms)
    counts = {"fetched": len(items), "late": len(plan.late)}
    await writer.commit(Commit(plan, source, counts=counts))
    planner.apply(plan)
    await writer.commit(Commit(planner.close_all("drain"), source))
    kept = 0
    for alone in (False, True):
        while True:
            await Schedule(store).close_due(scope)
            found, _ = await claims.claim(1 if alone else 50, lease_ms=60_000, alone=alone)
            if not found:
                break
            for claim, messages in await claims.whole(found):
                output = await claims.read_output(claim)
                kept += output.output in (b"rows", b"kept")
                if output.output == b"rows":
                    assert output.sinks == {"sql-0"}
                    assert output.progress == {"part": b"done"}
                    assert claim.attempt == 2
                counts = {"sunk": len(messages), "windows": 1}
                assert await claims.complete([Completion(claim, counts)]) == [True]
    assert kept == 2
    account = await read_account(store, scope)
    assert (account.missing, account.buffered, account.in_flight) == (0, 0, 0)
    assert account.fetched == left["account"]["fetched"] + len(items)
    assert account.dead == left["letters"] == 1


async def everything_is_read(store: ManualStore, scope: Scope, left: dict[str, Any]) -> None:
    """What operators and others see is what there was."""
    seen = await snapshot(store, scope, windows=True)
    assert {name: record.count for name, record in seen.windows.opened.items()} == left["open"]
    found = {}
    for window in seen.windows.closed.values():
        [content] = await PartitionClaims(store, scope).contents([window])
        found[window.id] = sorted(message.stream_seq for message in content.messages)
    assert found == left["closed"]
    account = await read_account(store, scope)
    assert {name: getattr(account, name) for name in left["account"]} == left["account"]
    assert await DeadLetterStore(store).count(scope) == left["letters"]
    letters = [one async for one in DeadLetterStore(store).after(scope, "-")]
    assert [one.letter.error for one in letters] == ["bad"] * left["letters"]
    [audited] = await audit(store, [scope])
    assert not audited.error
    [task] = await standing(store, [scope])
    assert task.partitions[0].fault == ""
    window_id, members = next(iter(found.items()))
    places = await Finder(store, scope).find(members[0])
    assert window_id in {place.window for place in places}
