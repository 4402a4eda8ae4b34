"""A worker that is told to end does so in time, whatever its children are at, and loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from sinfer.embedded.services import Service
from sinfer.tasks.prefork import LONGEST_END_S
from tests.support.deployment import Connections, Deployment, Task, numbers, ordered
from tests.support.until import until

pytestmark = pytest.mark.e2e

IDLE_S = 3.0
GRACE_S = 5.0
"""How long windows that are under way are waited for; see docs/operations.md."""
SLACK_S = 5.0
"""For a full machine. Half a minute, as it was before, is far beyond all of it."""

WINDOW = {"type": "count", "count": 5, "max_wait": "300ms"}


async def started(deployment: Deployment) -> Service:
    worker = deployment.worker()
    deployment.start(worker)
    await asyncio.to_thread(worker.wait_until_ready)
    return worker


def children(worker: Service) -> list[psutil.Process]:
    return psutil.Process(worker.process.pid).children()


async def time_to_end_s(worker: Service, signals: Iterable[int], patience_s: float = 60.0) -> float:
    """Send a worker signals and wait until it and its children are gone, seconds."""
    left = children(worker)
    began_s = time.monotonic()
    for number in signals:
        with suppress(ProcessLookupError):
            worker.process.signal(number)
        await asyncio.sleep(0)

    def is_over() -> bool:
        return not worker.process.is_running

    await until(is_over, f"{worker.name} to end", patience_s)
    took_s = time.monotonic() - began_s
    assert not [child for child in left if child.is_running()], "children outlive their worker"
    assert "Traceback" not in worker.process.log.read_text()
    return took_s


@asynccontextmanager
async def flowing(connections: Connections, task: Task) -> AsyncIterator[list[int]]:
    """Messages come all the time; gives the ids that were published."""
    published: list[int] = []

    async def flow() -> None:
        while True:
            first = len(published)
            await connections.publish(task, numbers(first, first + 5))
            published.extend(range(first, first + 5))
            await asyncio.sleep(0.02)

    running = asyncio.create_task(flow())
    try:
        yield published
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        # What was under way when it was cancelled may be there or not.
        stream = await connections.jetstream.stream_info(task.id)
        published[:] = range(stream.state.messages)


async def test_a_message_that_a_child_has_and_nobody_knows_of_delays_no_end(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "unbegun", window=WINDOW)
    deployment.start(deployment.ingest(), deployment.beat())
    worker = await started(deployment)
    frozen = children(worker)
    for child in frozen:
        child.suspend()
    await connections.publish(task, numbers(0, 20))

    async def are_with_children() -> bool:
        return bool(await connections.broker.hlen("unacked") >= len(frozen))

    await until(are_with_children, "messages to be with children that do nothing")
    threads = psutil.Process(worker.process.pid).num_threads()
    worker.process.signal(signal.SIGTERM)

    def waits_for_children() -> bool:
        """Celery starts a thread while it does."""
        return psutil.Process(worker.process.pid).num_threads() > threads

    await until(waits_for_children, "the worker to wait for its children")
    for child in frozen:
        child.resume()
    assert await time_to_end_s(worker, ()) < GRACE_S + SLACK_S
    await started(deployment)
    await connections.settled(task, 20)
    await connections.assert_one_result_each(task, range(20))


async def test_an_idle_worker_that_is_told_twice_ends_at_once(deployment: Deployment) -> None:
    told = [signal.SIGINT, signal.SIGINT]
    assert await time_to_end_s(await started(deployment), told) < IDLE_S + SLACK_S / 2


@pytest.mark.long
async def test_fifty_workers_in_a_row_end_in_time_while_messages_flow(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "fifty", window=WINDOW)
    deployment.start(deployment.ingest(), deployment.beat())
    took_s = []
    async with flowing(connections, task) as published:
        for round in range(50):
            worker = await started(deployment)
            done = len(published)
            await until(lambda done=done: len(published) > done + 10, "messages")  # type: ignore[misc]
            signals = [(signal.SIGTERM,), (signal.SIGINT, signal.SIGINT), (signal.SIGQUIT,)]
            took_s.append(await time_to_end_s(worker, signals[round % 3]))
    await started(deployment)
    await connections.settled(task, len(published), timeout_s=120)
    await connections.assert_one_result_each(task, published)
    assert max(took_s) < GRACE_S + SLACK_S, took_s
    assert sorted(took_s)[len(took_s) // 2] < IDLE_S + SLACK_S / 2, took_s


@pytest.mark.long
@pytest.mark.parametrize("frozen", ["child", "redis", "model"])
async def test_what_does_not_answer_keeps_no_worker_from_ending(
    deployment: Deployment, connections: Connections, frozen: str
) -> None:
    task = await ordered(deployment, connections, f"frozen-{frozen}", window=WINDOW)
    deployment.start(deployment.ingest(), deployment.beat())
    worker = await started(deployment)
    if frozen == "model":
        deployment.model.order({"mode": "hang", "count": None})
    await connections.publish(task, numbers(0, 20))
    victims = {
        "child": [child.pid for child in children(worker)[:1]],
        "redis": [deployment.redis.process.pid],
        "model": [],
    }[frozen]
    for pid in victims:
        os.kill(pid, signal.SIGSTOP)
    longest_s = LONGEST_END_S if frozen == "child" else 3 * GRACE_S
    try:
        assert await time_to_end_s(worker, [signal.SIGTERM]) < longest_s + SLACK_S
    finally:
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        deployment.model.reset()
    await started(deployment)
    await connections.settled(task, 20, timeout_s=60)
    await connections.assert_one_result_each(task, range(20))
