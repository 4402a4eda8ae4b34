"""The model is away for long: reading stops, JetStream keeps the backlog, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sinfer.embedded.services import Service
from tests.support.deployment import (
    Connections,
    Deployment,
    Task,
    numbers,
    ordered,
    wait_for_log,
)
from tests.support.until import until

pytestmark = pytest.mark.e2e

MAXMEMORY = 24 << 20


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A small Redis, which refuses to grow."""
    directory: Path = tmp_path_factory.mktemp("pressure")
    with Deployment(directory, redis_config={"maxmemory": str(MAXMEMORY)}) as deployment:
        deployment.start_servers()
        yield deployment


@pytest.fixture(scope="module", autouse=True)
def running(deployment: Deployment) -> Iterator[list[Service]]:
    services = deployment.ingest(), deployment.worker(), deployment.beat()
    with deployment.running(*services) as running:
        yield running


async def fill(connections: Connections, task: Task, messages: int, pad: int) -> None:
    """Publish large messages, faster than one by one."""
    for number, message in enumerate(numbers(0, messages, pad="x" * pad), 1):
        await connections.nats.publish(task.subject, json.dumps(message).encode())
        if number % 100 == 0:
            await connections.nats.flush()

    async def are_stored() -> bool:
        info = await connections.jetstream.stream_info(task.id)
        return info.state.messages == messages

    await until(are_stored, f"{messages} messages to be in the stream")


async def test_tasks_stop_reading_at_their_limits_and_go_on_when_the_model_is_back(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    limits: dict[str, dict[str, Any]] = {
        "by-windows": {"max_pending_windows": 10},
        "by-bytes": {"max_pending_bytes": "100KiB"},
    }
    tasks = [Task(deployment, id) for id in limits]
    deployment.model.stop()
    try:
        for task in tasks:
            await connections.make_streams(task)
            await fill(connections, task, 500, pad=1000)
            deployment.order(task.id, limits={"lease": "2s", **limits[task.id]})
        await wait_for_log(running[0], "wait (limits.max_pending_windows 10)")
        await wait_for_log(running[0], "bytes wait (limits.max_pending_bytes 102400)")
        # One batch of 100 may be on its way when a limit is passed.
        before = [(await connections.account(task)).fetched for task in tasks]
        assert 100 <= min(before) <= max(before) <= 300
        other = await ordered(deployment, connections, "without-limits")
        for messages in range(10, 60, 10):  # what came later elsewhere is read meanwhile
            await connections.publish(other, numbers(messages - 10, messages))
            await connections.fetched(other, messages)
        assert [(await connections.account(task)).fetched for task in tasks] == before
    finally:
        deployment.start_servers(deployment.model)
    for task in tasks:
        account = await connections.settled(task, 500)
        assert account.dead == 0
        await connections.assert_one_result_each(task, range(500))
        assert f"{task.scope}: pulling goes on" in running[0].process.log.read_text()


async def test_an_outage_of_the_model_does_not_fill_redis(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = Task(deployment, "by-memory")
    await connections.make_streams(task)
    messages = 3600
    await fill(connections, task, messages, pad=10_000)  # half as much again as Redis may use
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            memory: Any = await connections.redis.info("memory")
            most = max(most, int(memory["used_memory"]))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    deployment.model.order({"status": 503, "count": None})
    try:
        limits = {"lease": "2s", "max_pending_windows": 100_000, "max_pending_bytes": "4GiB"}
        deployment.order(task.id, limits=limits)
        await wait_for_log(running[0], "pulling stops: Redis is nearly full")
        held = (await connections.account(task)).fetched
        assert 0 < held < messages
        # However long it lasts: while the breaker is open, tries do not count as attempts.
        tried = deployment.model.stats()["requests"]
        await until(lambda: deployment.model.stats()["requests"] > tried, "another try")
        assert (await connections.account(task)).dead == 0
    finally:
        deployment.model.reset()
    account = await connections.settled(task, messages, 60)
    watching.cancel()
    assert account.dead == 0
    await connections.assert_one_result_each(task, range(messages))
    assert most < 0.9 * MAXMEMORY
    log = running[0].process.log.read_text()
    assert "at maxmemory" not in log
    assert "maxmemory; pulling goes on" in log
