"""Code of a product that exits, crashes, blocks or ends the loop, in real worker processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from sinfer.embedded.services import Service
from sinfer.operations.audit import audit
from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.dead_letters import DeadLetter, unpack_dead_letter
from sinfer.windows.ids import Scope
from tests.support.deployment import Connections, Deployment, wait_for_log
from tests.support.until import until

pytestmark = pytest.mark.e2e

MODULE = "hostile"

PRODUCT = """
import asyncio, ctypes, json, os, sys, time

from sinfer import InferPipeline, InferTaskConfig, Product, Result, StaticTaskManager


def identity(request):
    return request


def task(name, count):
    return {
        "id": name,
        "source": {"stream": "HOSTILE", "subject": f"in.{name}"},
        "window": {"type": "count", "count": count, "max_wait": "500ms"},
        "inference": {"type": "python", "call": identity, "retry_base": "50ms"},
        "sinks": [{"type": "jsonl", "path": f"{name}.jsonl"}],
        "limits": {"lease": "1s"},
    }


class Pipeline(InferPipeline[InferTaskConfig, dict]):
    def preprocess(self, message):
        return json.loads(message.data)

    def build_request(self, window):
        for item in window:
            match item.get("does"):
                case "exit":
                    sys.exit("for good")
                case "die":
                    os._exit(9)
                case "segfault":
                    ctypes.string_at(0)
                case "block":
                    time.sleep(item["seconds"])
                case "loop":
                    return self.exit_elsewhere()
                case "stop":
                    asyncio.get_running_loop().stop()
                case "cancel":
                    for other in asyncio.all_tasks():
                        other.cancel()
                case "cancel in a roundabout way":
                    for other in asyncio.all_tasks():
                        asyncio.Task.cancel(other)
        return [item["id"] for item in window]

    async def exit_elsewhere(self):
        async def leave():
            sys.exit("from a task of its own")
        await asyncio.create_task(leave())

    def build_results(self, window, response):
        return [Result(number) for number in response]


product = Product("hostile", pipeline=Pipeline, tasks=StaticTaskManager([
    task("exit", 10), task("block", 2), task("quiet", 1), task("die", 40), task("segfault", 5),
    task("loop", 4), task("cancel", 4), task("meddle", 10),
]))
"""


class World:
    """The deployment with the hostile product.

    Args:
        deployment: its servers.
        connections: to them.
        worker: the worker that runs.
    """

    def __init__(self, deployment: Deployment, connections: Connections, worker: Service) -> None:
        self.deployment = deployment
        self.connections = connections
        self.worker = worker

    def scope(self, task: str) -> Scope:
        return Scope(MODULE, task, f"in.{task}")

    async def publish(self, task: str, ids: Iterable[int], **hostile: dict[str, object]) -> None:
        """Publish items; ``hostile`` says what some of them do, by ``i`` and their number."""
        for number in ids:
            item = {"id": number, **hostile.get(f"i{number}", {})}
            await self.connections.jetstream.publish(f"in.{task}", json.dumps(item).encode())

    def results(self, task: str) -> Counter[int]:
        path = Path(self.deployment.directory) / f"{task}.jsonl"
        text = path.read_text() if path.exists() else ""
        return Counter(json.loads(line)["result"] for line in text.splitlines())

    async def dead(self, task: str) -> list[DeadLetter]:
        entries: Any = await self.connections.redis.xrange(PartitionKeys(self.scope(task)).dead)
        return [unpack_dead_letter(fields[b"letter"]) for _, fields in entries]

    async def settled(self, task: str, messages: int) -> None:
        """Wait until that many messages have had their end, and audit the task."""
        keys = PartitionKeys(self.scope(task))

        async def is_settled() -> bool:
            found = await self.connections.redis.hmget(keys.meta, ["sunk", "dead"])
            return sum(int(number or 0) for number in found) >= messages

        await until(is_settled, f"{messages} messages of {task}", timeout_s=100)
        store = Store(self.deployment.redis.url)
        try:
            [found] = await audit(store, [self.scope(task)])
            assert found.is_right, found.problems
        finally:
            await store.aclose()


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> Service:
    (deployment.directory / f"{MODULE}.py").write_text(PRODUCT)
    deployment.variables["SINFER_PRODUCTS"] = MODULE
    worker = deployment.worker(concurrency=2)
    deployment.start(worker, deployment.beat())
    return worker


@pytest.fixture
async def world(deployment: Deployment, connections: Connections, worker: Service) -> World:
    if not deployment.variables.get("STREAM"):
        await connections.jetstream.add_stream(name="HOSTILE", subjects=["in.*"])
        deployment.start(deployment.ingest(MODULE))
        deployment.variables["STREAM"] = "there"
    return World(deployment, connections, worker)


async def test_a_hook_that_exits_harms_its_item_and_no_process(world: World) -> None:
    await world.publish("exit", range(10), i4={"does": "exit"})
    await world.settled("exit", 10)
    [letter] = await world.dead("exit")
    assert letter.stage == "request"
    assert letter.error == (
        "build_request: SystemExit: for good (it asked for the end of the process)"
    )
    assert letter.attempts == 1
    assert world.results("exit") == Counter(n for n in range(10) if n != 4)
    assert "exited" not in world.worker.process.log.read_text()


async def test_a_hook_that_meddles_with_the_event_loop_harms_its_item_and_no_process(
    world: World,
) -> None:
    before = len(world.worker.process.log.read_text())
    await world.publish("meddle", range(10), i2={"does": "stop"}, i7={"does": "cancel"})
    await world.settled("meddle", 10)
    letters = await world.dead("meddle")
    assert [json.loads(letter.message.data)["id"] for letter in letters] == [2, 7]
    errors = ["stop the worker's event loop", "cancel the task"]
    for letter, error in zip(letters, errors, strict=True):
        assert letter.error.startswith(f"build_request: RuntimeError: a hook must not {error}")
        assert letter.attempts == 1
    assert world.results("meddle") == Counter(n for n in range(10) if n not in {2, 7})
    log = world.worker.process.log.read_text()[before:]
    assert "ends:" not in log
    assert "Traceback" not in log


async def test_a_hook_that_blocks_past_the_lease_keeps_its_window_and_status_names_it(
    world: World,
) -> None:
    await world.publish("block", range(2), i1={"does": "block", "seconds": 6})
    store = Store(world.deployment.redis.url)
    scope = world.scope("block")

    async def is_told() -> bool:
        found = await standing(store, [scope])
        trouble = " ".join(text for task in found for text in task.trouble)
        return "build_request has blocked worker process" in trouble

    await until(is_told, "status to name the hook")
    await world.publish("quiet", range(3))
    await world.settled("quiet", 3)  # another process of the worker goes on
    await world.settled("block", 2)
    assert world.results("block") == Counter([0, 1])
    assert await world.dead("block") == []
    assert not await world.connections.redis.exists(PartitionKeys(scope).deaths)

    async def is_over() -> bool:
        [found] = await standing(store, [scope])
        return not any("blocked" in text for text in found.trouble)

    await until(is_over, "status to forget it")
    assert await PartitionClaims(store, scope).waiting() == 0
    await store.aclose()


@pytest.mark.long
async def test_of_forty_items_the_one_that_kills_the_process_dies_alone(world: World) -> None:
    await world.publish("quiet", range(100, 140))
    await world.publish("die", range(40), i17={"does": "die"})
    await world.publish("quiet", range(200, 240))
    await world.settled("die", 40)
    [letter] = await world.dead("die")
    assert json.loads(letter.message.data)["id"] == 17
    assert letter.error.startswith("its worker died while processing this item alone, 2 times")
    assert world.results("die") == Counter(n for n in range(40) if n != 17)
    await world.publish("quiet", range(300, 301))

    async def are_done() -> bool:
        return {*range(100, 140), *range(200, 240), 300} <= world.results("quiet").keys()

    await until(are_done, "the innocent windows", timeout_s=60)
    assert await world.dead("quiet") == []


@pytest.mark.long
async def test_a_segmentation_fault_is_found_likewise(world: World) -> None:
    await world.publish("segfault", range(5), i2={"does": "segfault"})
    await world.settled("segfault", 5)
    assert [json.loads(x.message.data)["id"] for x in await world.dead("segfault")] == [2]
    assert world.results("segfault") == Counter([0, 1, 3, 4])


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "does", "why"),
    [
        ("loop", "loop", "its event loop has ended: SystemExit: from a task of its own"),
        ("cancel", "cancel in a roundabout way", "was cancelled by code that is not sinfer's"),
    ],
)
async def test_a_process_whose_event_loop_ends_or_is_emptied_unasked_ends_itself(
    world: World, task: str, does: str, why: str
) -> None:
    await world.publish(task, range(4), i3={"does": does})
    await wait_for_log(world.worker, why)
    lines = world.worker.process.log.read_text().splitlines()
    [line] = [line for line in lines if why in line]
    assert f"build_request of hostile/{task}" in line
    await world.settled(task, 4)
    assert [json.loads(x.message.data)["id"] for x in await world.dead(task)] == [3]
    assert world.results(task) == Counter([0, 1, 2])
