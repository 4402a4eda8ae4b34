"""A stream that drops what is not read in time: the loudest number there is, in both modes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.js.api import StreamConfig

from sinfer import exit_codes
from sinfer.operations.metrics import SinferCollector
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from tests.support.commands import sinfer
from tests.support.deployment import Connections, Deployment, Task, numbers
from tests.support.until import until

pytestmark = pytest.mark.e2e

KEPT, PUBLISHED = 200, 1000


@pytest.mark.parametrize("mode", ["position", "durable"])
async def test_what_vanishes_under_back_pressure_is_counted_told_and_found(
    deployment: Deployment, connections: Connections, mode: str
) -> None:
    task = Task(deployment, f"dropped-{mode}")
    for name, subject, kept in (
        (task.id, task.subject, KEPT),
        (f"{task.id}-out", task.results, -1),
    ):
        config = StreamConfig(name=name, subjects=[subject], max_msgs=kept)
        await connections.jetstream.add_stream(config)
    durable = {"durable": "d"} if mode == "durable" else {}
    deployment.order(
        task.id,
        source={"stream": task.id, "subject": task.subject, "batch": 10, **durable},
        limits={"lease": "2s", "max_pending_windows": 2},
    )
    with deployment.running(deployment.ingest(), deployment.beat()):
        await connections.publish(task, numbers(0, 10))
        await connections.fetched(task, 10)  # what is gone before a task begins, it does not miss
        await connections.publish(task, numbers(10, PUBLISHED))
        await connections.fetched(task, 30)  # more is not pulled while no window is done
        await connections.publish(task, numbers(PUBLISHED, 2 * PUBLISHED))
        with deployment.running(deployment.worker()):
            await until(lambda: all_came(connections, task), "all that is left to be processed")
            discarded = await number_discarded(connections, task)
            assert discarded > PUBLISHED // 2
            await told(deployment, task, discarded)


async def number_discarded(connections: Connections, task: Task) -> int:
    stored: Any = await connections.redis.hget(PartitionKeys(task.scope).meta, "discarded")
    return int(stored or 0)


async def all_came(connections: Connections, task: Task) -> bool:
    account = await connections.account(task)
    discarded = await number_discarded(connections, task)
    return account.sunk + discarded == 2 * PUBLISHED and account.held == 0


async def told(deployment: Deployment, task: Task, discarded: int) -> None:
    [standing] = (await sinfer(deployment, "status", "--task", task.id, "--json")).json
    text = f"LOST: {discarded} messages of {task.subject} were removed from the stream before"
    assert standing["trouble"][0].startswith(text)
    [row] = (await sinfer(deployment, "audit", "--task", task.id, "--json")).json
    assert (row["discarded"], row["missing"]) == (discarded, 0)
    found = await sinfer(deployment, "where", "--task", task.id, "--seq", str(PUBLISHED))
    assert found.code == exit_codes.OK
    assert "removed by the stream's limits before it was read" in found.out
    collector = SinferCollector(lambda: Store(deployment.redis.url))
    families = {
        family.name: family for family in await asyncio.to_thread(list, collector.collect())
    }
    values = {s.labels["task"]: s.value for s in families["sinfer_discarded"].samples}
    assert values[task.id] == discarded
