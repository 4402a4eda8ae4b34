"""Tasks come, change and go while everything runs; no process restarts and no message is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from sinfer.embedded.services import Service
from sinfer.store.keys import PartitionKeys
from tests.support.deployment import (
    Connections,
    Deployment,
    Task,
    numbers,
    ordered,
    rows,
    wait_for_log,
)
from tests.support.until import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def ingest(deployment: Deployment) -> Iterator[Service]:
    services = deployment.ingest(), deployment.worker(), deployment.beat()
    with deployment.running(*services) as running:
        yield running[0]


async def is_forgotten(connections: Connections, task: Task) -> bool:
    gone = not await connections.redis.exists(PartitionKeys(task.scope).meta)
    return gone and task.scope not in await connections.scopes()


async def test_a_removed_task_is_drained_and_forgotten(
    deployment: Deployment, connections: Connections, ingest: Service
) -> None:
    task = await ordered(deployment, connections, "removed", window={"type": "count", "count": 10})
    await connections.publish(task, numbers(0, 25))
    await connections.settled_at_least(task, 20)
    deployment.withdraw(task)

    async def forgotten() -> bool:
        return await is_forgotten(connections, task)

    await until(forgotten, "the partition to be forgotten")
    await connections.assert_one_result_each(task, range(25))
    assert Counter(row["reason"] for row in rows(task)) == {"count": 20, "drain": 5}
    async for key in connections.redis.scan_iter(match=f"*{task.scope}*"):
        assert await connections.redis.ttl(key) > 0, key


async def test_a_task_that_comes_back_in_time_goes_on_where_it_was(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "back", window={"type": "count", "count": 2})
    deployment.model.order({"mode": "hang", "count": None})
    try:
        await connections.publish(task, numbers(0, 3))

        async def is_closed() -> bool:
            return bool(await connections.redis.hlen(PartitionKeys(task.scope).closed))

        await until(is_closed, "a window to close")
        deployment.withdraw(task)

        async def is_drained() -> bool:
            return await connections.redis.hlen(PartitionKeys(task.scope).closed) == 2

        await until(is_drained, "the open window to close")
        deployment.order(task.id, window={"type": "count", "count": 2})
        await connections.publish(task, numbers(3, 5))
    finally:
        deployment.model.reset()
    account = await connections.settled(task, 5)
    assert account.sunk == 5
    await connections.assert_one_result_each(task, range(5))


async def test_a_corrected_url_helps_windows_that_wait_already(
    deployment: Deployment, connections: Connections
) -> None:
    wrong = {"type": "v2", "url": f"{deployment.model.url}/nowhere", "model": "example"}
    task = await ordered(deployment, connections, "corrected", inference=wrong)
    await connections.publish(task, numbers(0, 10))

    async def is_paused() -> bool:
        return bool(await connections.redis.hlen("sinfer:paused"))

    await until(is_paused, "the task to be paused, as no call can succeed")
    deployment.order(task.id)
    await connections.settled(task, 10)
    await connections.assert_one_result_each(task, range(10))
    assert not await is_paused()


async def test_windows_cut_in_another_way_do_not_mix_with_those_before(
    deployment: Deployment, connections: Connections
) -> None:
    event = {"type": "tumbling", "time": "event", "idle": "500ms"}
    task = await ordered(deployment, connections, "recut", window={**event, "size": "10s"})
    await connections.publish(task, numbers(0, 4, time=1003.0))
    await connections.settled_at_least(task, 0)

    async def is_open() -> bool:
        return (await connections.account(task)).fetched == 4

    await until(is_open, "the messages to be stored")
    deployment.order(task.id, window={**event, "size": "20s", "idle": "500ms"})

    async def is_recut() -> bool:
        return await connections.redis.hget(PartitionKeys(task.scope).meta, "layout") == b"1"

    await until(is_recut, "the change")
    # Window [1000, 1020) begins where [1000, 1010) did.
    await connections.publish(task, numbers(4, 8, time=1004.0))
    account = await connections.settled(task, 8)
    assert account.late == 0
    await connections.assert_one_result_each(task, range(8))


async def test_a_task_that_breaks_stays_as_it_was_and_is_told_by_field(
    deployment: Deployment, connections: Connections, ingest: Service
) -> None:
    task = await ordered(deployment, connections, "breaks")
    await connections.process(task, 0, 10)
    deployment.order(task.id, limits={"lease": "soon"})
    await wait_for_log(ingest, "task 'breaks': limits.lease: ")
    await connections.process(task, 10, 20)
    await connections.assert_one_result_each(task, range(20))


async def test_while_the_list_cannot_be_read_the_last_known_tasks_stay_in_force(
    deployment: Deployment, connections: Connections, ingest: Service
) -> None:
    task = await ordered(deployment, connections, "outlasts")
    await connections.process(task, 0, 10)
    tasks = deployment.directory / "tasks.json"
    good = tasks.read_text()
    tasks.write_text("[")
    try:
        await wait_for_log(ingest, "its tasks cannot be listed")
        await connections.process(task, 10, 20)
    finally:
        tasks.write_text(good)
    await wait_for_log(ingest, "its tasks are listed again")
    assert ingest.process.log.read_text().count("its tasks cannot be listed") == 1
    assert json.loads(good)
