"""Hundreds of partitions wait, and no worker has been there for a while."""

from __future__ import annotations

import os
import time

import pytest

from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.tasks.application import make_app
from sinfer.tasks.hints import MOST_WAITING, HintSender
from sinfer.types.message import Message
from sinfer.types.queues import TICK_QUEUE, product_queue
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from tests.support.deployment import Connections, Task, ordered, wait_for_log
from tests.support.until import until
from tests.support.window_reference import window_spec

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TASKS = 7
PARTITIONS = 100
"""Of each task."""

COMMITS = 5
"""How often each ingestor tells of its windows before a worker comes."""

TICKS = 4
"""How often beat ticks meanwhile, each time."""

SLACK = 50
"""So many messages above the bound a single sender may send."""

BEGINS_S, ENDS_S = 20.0, 120.0


async def _a_window_waits(store: Store, scope: Scope, number: int) -> None:
    writer = PartitionWriter(store, scope, owner="w", lease_ms=600_000)
    await writer.acquire()
    await writer.load()
    planner = make_planner(window_spec(type="count", count=1), scope.window_prefix)
    message = Message(b'{"id": %d}' % number, scope.partition, None, number, number)
    plan = planner.plan([Entry(message, "", 0)], 0)
    await writer.commit(Commit(plan, b"", counts={"fetched": 1}))
    await Schedule(store).register(scope)


async def test_a_worker_begins_at_once_and_ends_with_all_of_them(connections: Connections) -> None:
    deployment = connections.deployment
    tasks: list[Task] = []
    for n in range(TASKS):
        result = {"type": "jetstream", "subject": f"out.task{n}"}
        tasks.append(await ordered(deployment, connections, f"task{n}", sinks=[result]))
    scopes = [
        Scope(deployment.product, task.id, f"{task.subject}.{n}")
        for task in tasks
        for n in range(PARTITIONS)
    ]
    store = Store(deployment.redis.url)
    app = make_app([])
    app.conf.update(broker_url=deployment.redis.url.rpartition("/")[0] + "/1")
    sender = HintSender(app)
    for number, scope in enumerate(scopes, start=1):
        await _a_window_waits(store, scope, number)
    await store.aclose()
    beat = deployment.beat()
    deployment.start(beat)
    queue = product_queue(deployment.product)
    most = 0

    async def note_length() -> int:
        nonlocal most
        length = await connections.broker.llen(queue)
        most = max(most, length)
        return length

    for number in range(1, COMMITS + 1):
        for scope in scopes:
            sender.send(scope, 1)
        # Beat may add to what waits as well.
        await wait_for_log(beat, "Sending due task tick", times=number * TICKS)
        await note_length()
    assert MOST_WAITING <= most <= MOST_WAITING + SLACK
    assert await connections.broker.llen(TICK_QUEUE) <= 1

    async def done() -> int:
        infos = [await connections.jetstream.stream_info(f"{task.id}-out") for task in tasks]
        return sum(info.state.messages for info in infos)

    began_s = time.monotonic()
    deployment.start(deployment.worker(concurrency=2))
    first_s = 0.0
    counts: list[tuple[float, int]] = []

    async def all_are_done() -> bool:
        nonlocal first_s
        await note_length()
        count = await done()
        counts.append((round(time.monotonic() - began_s, 1), count))
        if count and not first_s:
            first_s = time.monotonic() - began_s
        return count >= len(scopes)

    await until(all_are_done, "a result of each partition", timeout_s=ENDS_S)
    sender.close()
    app.close()
    took_s = time.monotonic() - began_s
    print(f"first result after {first_s:.1f} s, all after {took_s:.1f} s; most waited: {most}")
    print(counts[:: max(1, len(counts) // 15)], os.getloadavg())
    assert first_s < BEGINS_S
    assert most <= MOST_WAITING + 2 * SLACK  # this sender's, and the worker's
    assert await done() == len(scopes)
