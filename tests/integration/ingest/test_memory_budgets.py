"""The task that fills Redis stops first, the others go on."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.ingest.backpressure import MemoryPressure
from sinfer.ingest.memory_budgets import TaskBudgets, fair_level
from sinfer.operations.status import standing
from sinfer.products.task import InferTaskConfig
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.memory_use import measure
from sinfer.store.work.claim import Completion
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from tests.integration.store.conftest import Partition
from tests.support.task_settings import task_of

LIMIT = 48 << 20
HOG, QUIET = Scope("p", "hog", ">"), Scope("p", "quiet", ">")


@pytest.mark.parametrize(
    ("sizes", "room", "level"),
    [
        ([], 10, math.inf),
        ([1, 2, 3], 6, math.inf),
        ([1, 2, 30], 10, 7),
        ([20, 30], 10, 5),
        ([1, 1], -4, -2),
    ],
)
def test_the_level_cuts_the_largest(sizes: list[int], room: float, level: float) -> None:
    assert fair_level(sizes, room) == level


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    with RedisServer(config={"maxmemory": str(LIMIT)}) as server:
        store = Store(server.url)
        yield store
        await store.aclose()


def task(name: str, **limits: object) -> InferTaskConfig:
    return task_of(name, limits=limits)


class Filling:
    """A partition that takes messages of 10 kB."""

    def __init__(self, store: Store, scope: Scope, count: int = 10) -> None:
        self.partition = Partition(store, scope, type="count", count=count)
        self.seq = 0

    async def take(self, messages: int) -> None:
        if self.partition.writer.token == 0:
            assert await self.partition.writer.acquire() == 0
        first, self.seq = self.seq + 1, self.seq + messages
        entries = [
            Entry(Message(bytes(10_000), "in", None, seq, seq), "k", 0)
            for seq in range(first, self.seq + 1)
        ]
        plan = self.partition.planner.plan(entries, 0)
        await self.partition.writer.commit(Commit(plan, b"", counts={"fetched": messages}))
        self.partition.planner.apply(plan)


async def looked(store: Store, budgets: TaskBudgets, **limits: object) -> None:
    pressure = MemoryPressure(store)
    await pressure.refresh()
    tasks = {HOG: task("hog", **limits), QUIET: task("quiet")}
    await budgets.refresh(tasks, pressure.used, pressure.limit)


@pytest.mark.parametrize("kind", ["closed", "open", "dead"])
async def test_the_task_that_fills_redis_stops_and_the_other_goes_on(
    store: Store, kind: str
) -> None:
    hog = Filling(store, HOG, count=10_000 if kind == "open" else 10)
    quiet, budgets = Filling(store, QUIET), TaskBudgets(store)
    await quiet.take(50)
    await hog.take(100)
    await looked(store, budgets)
    assert not budgets.reason("p", "hog")
    while (await store.redis.info("memory"))[
        "used_memory"
    ] < 0.66 * LIMIT:  # clients take and return some
        await hog.take(100)
        if kind == "dead":
            await give_up(hog.partition)
    use = await measure(store, HOG)
    assert 0.4 * LIMIT < use.total < 0.7 * LIMIT
    assert (use.dead > use.total / 2) == (kind == "dead")
    await looked(store, budgets)
    assert "share" in budgets.reason("p", "hog")
    assert ("dead letters" in budgets.reason("p", "hog")) == (kind == "dead")
    assert not budgets.reason("p", "quiet")
    seen = {task.task: task.trouble for task in await standing(store, [HOG, QUIET])}
    assert any("pulling stops: it takes" in trouble for trouble in seen["hog"])
    assert not any("pulling stops" in trouble for trouble in seen["quiet"])
    elsewhere = TaskBudgets(store)  # another ingestor, of the other task alone
    pressure = MemoryPressure(store)
    await pressure.refresh()
    await elsewhere.refresh({QUIET: task("quiet")}, pressure.used, pressure.limit)
    assert elsewhere.reason("p", "hog")
    await empty(store, hog.partition, kind)
    await looked(store, budgets)
    assert not budgets.reason("p", "hog")
    [found, _] = await standing(store, [HOG, QUIET])
    assert not found.memory


async def test_a_task_keeps_to_a_limit_of_its_own_dead_letters_and_outputs_included(
    store: Store,
) -> None:
    hog, budgets = Filling(store, HOG), TaskBudgets(store)
    await hog.take(50)
    await looked(store, budgets, max_memory="1MiB")
    assert not budgets.reason("p", "hog")
    await hog.take(10)
    claims = await hog.partition.claim(100)
    await hog.partition.claims.store_output(claims[0], output=bytes(600_000))
    await looked(store, budgets, max_memory="1MiB")
    assert "limits.max_memory (1 MiB)" in budgets.reason("p", "hog")
    await hog.partition.complete(claims)
    await looked(store, budgets, max_memory="1MiB")
    assert not budgets.reason("p", "hog")


async def give_up(partition: Partition) -> None:
    claims = await partition.claim()
    for claim, messages in zip(claims, await partition.claims.read(claims), strict=True):
        letters = [DeadLetter(m, "inference", "bad", 0, claim.window.id) for m in messages]
        await partition.claims.complete([Completion(claim, {"dead": len(letters)}, letters)])


async def empty(store: Store, partition: Partition, kind: str) -> None:
    if kind == "open":
        await partition.drain()
    if kind == "dead":
        letters = DeadLetterStore(store)
        found = [one.entry async for one in letters.of_partition(HOG, LetterFilter())]
        await letters.purge(HOG, found)
    else:
        await partition.complete(await partition.claim())
