"""A product outside the repository runs as it is, and each worker serves the queues it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sinfer.embedded.services import Service
from sinfer.windows.ids import Scope
from tests.support.deployment import Connections, Deployment, Task, numbers
from tests.support.until import until

pytestmark = pytest.mark.e2e

PRODUCT = '''
"""Smooths the temperature of rooms."""
from pydantic import BaseModel

from sinfer import InferPipeline, InferTaskConfig, Product, Result, StaticTaskManager

class Reading(BaseModel):
    room: str
    celsius: float

class RoomTask(InferTaskConfig):
    digits: int = 1

def average(values):
    return sum(values) / len(values)

class RoomPipeline(InferPipeline[RoomTask, Reading]):
    results_per = "window"

    def preprocess(self, message):
        return Reading.model_validate_json(message.data)

    def key(self, item):
        return item.room

    def build_request(self, window):
        return [reading.celsius for reading in window]

    def build_results(self, window, response):
        return [Result({"room": window.key, "celsius": round(response, self.task.digits)})]

product = Product("rooms", pipeline=RoomPipeline, tasks=StaticTaskManager([{
    "id": "smooth",
    "source": {"stream": "ROOMS"},
    "window": {"type": "count", "count": 3, "max_wait": "500ms"},
    "inference": {"type": "python", "call": average},
    "sinks": [{"type": "jsonl", "path": "rooms.jsonl"}, {"type": "log"}],
}]))
'''
MODULE = "room_temperatures"


@pytest.fixture(scope="module")
def rooms_worker(deployment: Deployment) -> Service:
    """All processes; the one worker serves the product `rooms` and the ticks alone."""
    (deployment.directory / f"{MODULE}.py").write_text(PRODUCT)
    deployment.variables["SINFER_PRODUCTS"] = f"{MODULE},{deployment.product}"
    worker = deployment.worker("-Q", "sinfer.rooms,sinfer.tick", concurrency=1)
    services = (
        worker,
        deployment.beat(),
        deployment.ingest(MODULE),
        deployment.ingest(deployment.product),
    )
    deployment.start(*services)
    return worker


def lines(path: Path) -> list[dict[str, object]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line)["result"] for line in text.splitlines()]


@pytest.mark.usefixtures("rooms_worker")
async def test_a_product_of_one_short_file_runs_unchanged(
    deployment: Deployment, connections: Connections
) -> None:
    assert len(PRODUCT.strip().splitlines()) <= 40
    await connections.jetstream.add_stream(name="ROOMS", subjects=["rooms.*"])
    for room, celsius in [("hall", 18), ("loft", 25), ("hall", 19), ("hall", 20.5), ("loft", 26)]:
        data = json.dumps({"room": room, "celsius": celsius}).encode()
        await connections.jetstream.publish(f"rooms.{room}", data)
    path = deployment.directory / "rooms.jsonl"
    await until(lambda: len(lines(path)) >= 2, "both windows")
    assert sorted(lines(path), key=lambda line: str(line["room"])) == [
        {"room": "hall", "celsius": 19.2},
        {"room": "loft", "celsius": 25.5},
    ]


async def test_a_worker_serves_only_the_products_that_it_is_told_to(
    deployment: Deployment, connections: Connections, rooms_worker: Service
) -> None:
    task = Task(deployment, "routed")
    await connections.make_streams(task)
    deployment.order("routed", window={"type": "count", "count": 5})
    await connections.publish(task, numbers(0, 20))
    queue = f"sinfer.{deployment.product}"
    broker = connections.broker

    async def hints_wait() -> bool:
        return await broker.llen(queue) > 0

    await until(hints_wait, "hints in the product's queue")
    # The worker of the other product is at work meanwhile, and leaves these windows alone.
    path = deployment.directory / "rooms.jsonl"
    before = len(lines(path))
    data = json.dumps({"room": "cellar", "celsius": 11}).encode()
    for _ in range(3):
        await connections.jetstream.publish("rooms.cellar", data)
    await until(lambda: len(lines(path)) > before, "the other product's window")
    account = await connections.account(task)
    assert (account.fetched, account.held) == (20, 20)
    assert await broker.llen(queue) > 0

    deployment.start(deployment.worker("-Q", queue, concurrency=1))
    await connections.settled(task, 20)
    await connections.assert_one_result_each(task, range(20))
    assert await connections.scopes() == {task.scope, Scope("rooms", "smooth", ">")}
