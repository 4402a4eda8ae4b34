"""Redis' clock goes back an hour while everything runs: windows close, retries come, all goes on.

A server's clock cannot be set here. What is stored afterwards is the same when the store has seen
an hour more than Redis' clock shows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sinfer.embedded.services import Service
from sinfer.store.keys import CLOCK, PartitionKeys
from tests.support.deployment import Connections, Deployment, Task, numbers, ordered

pytestmark = [pytest.mark.e2e, pytest.mark.long]

HOUR_MS = 3_600_000
WHERE = ["everywhere", "partitions", "index"]
"""Which groups of keys were looked at while the clock was ahead."""


@pytest.fixture(scope="module", autouse=True)
def services(deployment: Deployment) -> Iterator[list[Service]]:
    started = [deployment.ingest(), deployment.ingest(), deployment.worker(), deployment.beat()]
    deployment.start(*started)
    yield started
    for service in started:
        service.check()


async def set_back(connections: Connections, task: Task, where: str) -> None:
    keys = [CLOCK] if where != "partitions" else []
    keys += [PartitionKeys(task.scope).meta] if where != "index" else []
    for key in keys:
        seen = int(await connections.redis.hget(key, "time") or 0)
        await connections.redis.hset(key, "time", seen + HOUR_MS)


@pytest.mark.parametrize("where", WHERE)
async def test_all_goes_on_when_the_clock_goes_back(
    deployment: Deployment, connections: Connections, where: str
) -> None:
    task = await ordered(deployment, connections, f"back-{where}")
    await connections.process(task, 0, 25)
    await connections.publish(task, numbers(25, 58))
    await set_back(connections, task, where)
    deployment.model.order({"mode": "status", "status": 503, "count": 3})
    await connections.publish(task, numbers(58, 95))
    await connections.settled(task, 95, timeout_s=45)
    await connections.assert_one_result_each(task, range(95))
