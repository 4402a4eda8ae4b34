"""Processes and servers die in mid-stream: no message is lost, and none has two results."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from sinfer.embedded.services import Service
from sinfer.store.keys import PartitionKeys
from tests.support.deployment import Connections, Deployment, Task, numbers, ordered, wait_for_log
from tests.support.until import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Redis writes each change to its disk before it answers, and beat runs all the time."""
    directory = tmp_path_factory.mktemp("kills")
    with Deployment(directory, redis_config={"appendfsync": "always"}) as deployment:
        deployment.start_servers()
        deployment.start(deployment.beat())
        yield deployment


class Processes:
    """The processes of one test."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self._ending = ExitStack()

    def start(self, *services: Service) -> None:
        for service in services:
            self._ending.callback(service.process.kill)
        self.deployment.start(*services)

    def end(self) -> None:
        self._ending.close()


@pytest.fixture
async def processes(deployment: Deployment) -> AsyncIterator[Processes]:
    processes = Processes(deployment)
    yield processes
    processes.end()
    deployment.model.reset()


async def flow(
    connections: Connections, task: Task, first: int, last: int, per_second: int
) -> None:
    """Publish messages at a steady pace, so that something happens to some of them."""
    for start in range(first, last, 10):
        await connections.publish_surely(task, numbers(start, min(start + 10, last)))
        await asyncio.sleep(10 / per_second)


async def test_a_worker_killed_in_mid_window_leaves_it_to_another(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    task = await ordered(deployment, connections, "worker-killed")
    first = deployment.worker(concurrency=1)
    processes.start(first, deployment.ingest())
    # The results of the first windows are written; then the model takes forever.
    await connections.process(task, 0, 20)
    deployment.model.order({"mode": "hang", "count": None})
    await connections.publish(task, numbers(20, 60))
    await until(lambda: deployment.model.stats()["concurrent"] == 4, "windows in hand")
    first.process.kill()
    deployment.model.order()
    processes.start(deployment.worker(concurrency=1))
    await connections.settled(task, 60)
    await connections.assert_one_result_each(task, range(60))


async def test_results_that_were_written_before_the_kill_are_not_doubled(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    """The worker dies between its sinks and the end of its windows, again and again."""
    task = await ordered(
        deployment,
        connections,
        "sinks-killed",
        window={"type": "count", "count": 2, "max_wait": "300ms"},
    )
    processes.start(deployment.ingest())
    flowing = asyncio.create_task(flow(connections, task, 0, 300, 200))
    for _ in range(2):
        worker = deployment.worker(concurrency=2)
        processes.start(worker)
        sunk = (await connections.account(task)).sunk

        async def some_more_are_sunk(sunk: int = sunk) -> bool:
            return (await connections.account(task)).sunk > sunk + 20

        await until(some_more_are_sunk, "results")
        worker.process.kill()
    await flowing
    processes.start(deployment.worker(concurrency=2))
    await connections.settled(task, 300)
    await connections.assert_one_result_each(task, range(300))


async def test_when_an_ingestor_is_killed_another_takes_over_within_10_seconds(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    tasks = [Task(deployment, f"shared-{n}") for n in range(12)]
    for task in tasks:
        await connections.make_streams(task)
        deployment.order(task.id)
    victim, survivor = deployment.ingest(), deployment.ingest()
    processes.start(victim, survivor, deployment.worker(concurrency=1))

    async def owned_by(service: Service) -> list[Task]:
        mark = f"-{service.process.pid}-"
        return [task for task in tasks if mark in (await connections.owner(task) or "")]

    async def are_shared() -> bool:
        mine, others = await owned_by(victim), await owned_by(survivor)
        return bool(mine and others) and len(mine) + len(others) == len(tasks)

    await until(are_shared, "both ingestors to have tasks")
    busy = [(await owned_by(victim))[0], (await owned_by(survivor))[0]]
    flowing = [asyncio.create_task(flow(connections, task, 0, 300, 50)) for task in busy]
    await connections.settled_at_least(busy[0], 50)
    victim.process.kill()

    async def are_taken_over() -> bool:
        return len(await owned_by(survivor)) == len(tasks)

    await until(are_taken_over, "all tasks to be taken over", timeout_s=10)
    await asyncio.gather(*flowing)
    for task in busy:
        await connections.settled(task, 300)
        await connections.assert_one_result_each(task, range(300))


async def test_nats_and_redis_restart_in_mid_stream(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    task = await ordered(deployment, connections, "restarts")
    ingest, worker = deployment.ingest(), deployment.worker()
    processes.start(ingest, worker)
    await connections.process(task, 0, 100)

    # A server is started in this thread, since it dies with the thread that started it.
    flowing = asyncio.create_task(flow(connections, task, 100, 1100, 200))
    await connections.settled_at_least(task, 150)
    deployment.redis.restart()
    await connections.settled_at_least(task, 350)
    deployment.nats.restart()
    await connections.settled_at_least(task, 550)
    await flowing
    await connections.settled(task, 1100)
    await connections.assert_one_result_each(task, range(1100))
    for service in (ingest, worker):
        service.check()  # each of them went through both restarts


async def test_an_ingestor_that_is_told_to_end_stores_what_it_holds(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    task = await ordered(deployment, connections, "ingest-ended")
    processes.start(deployment.worker(concurrency=1))
    for first in (0, 200):
        ingest = deployment.ingest()
        processes.start(ingest)
        await wait_for_log(ingest, ": ingesting; ")
        flowing = asyncio.create_task(flow(connections, task, first, first + 200, 200))
        await connections.settled_at_least(task, first + 10)
        ingest.process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(ingest.process.wait, 10) == 0, ingest.process.tail()
        # It gave its partition back: the next one need not wait for the lease to run out.
        assert await connections.owner(task) is None
        assert "Traceback" not in ingest.process.log.read_text()
        await flowing
    processes.start(deployment.ingest())
    await connections.settled(task, 400)
    await connections.assert_one_result_each(task, range(400))


async def test_a_worker_that_is_told_to_end_hands_back_what_it_cannot_finish(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    task = Task(deployment, "worker-ended")
    await connections.make_streams(task)
    deployment.order(
        task.id,
        inference={
            "type": "v2", "url": deployment.model.url, "model": "example", "timeout": "10m",
        },
        limits={"lease": "10m", "max_attempts": 1},
    )  # fmt: skip
    worker = deployment.worker(concurrency=2)
    processes.start(worker, deployment.ingest())
    deployment.model.order({"mode": "hang", "count": 2}, {"delay_ms": 1000, "count": None})
    await connections.publish(task, numbers(0, 60))
    await until(lambda: deployment.model.stats()["requests"] >= 4, "windows in hand")
    worker.process.signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.process.wait, 20) == 0, worker.process.tail()
    account = await connections.account(task)
    assert account.balances
    assert account.sunk >= 20  # finished what could be finished
    assert account.held >= 20
    assert await connections.redis.zcard(PartitionKeys(task.scope).leases) == 0
    assert "Traceback" not in worker.process.log.read_text(), worker.process.tail(60)

    # Neither the lease of ten minutes nor the only attempt stands in the way of another worker.
    deployment.model.order()
    processes.start(deployment.worker(concurrency=1))
    await connections.settled(task, 60)
    await connections.assert_one_result_each(task, range(60))


async def test_a_broker_that_forgets_everything_costs_no_window_and_two_beats_do_no_harm(
    deployment: Deployment, connections: Connections, processes: Processes
) -> None:
    task = await ordered(
        deployment,
        connections,
        "flushed",
        window={"type": "tumbling", "size": "200ms", "max_count": 5},
    )
    second_beat = deployment.beat()
    processes.start(deployment.worker(), deployment.ingest(), second_beat)
    await wait_for_log(second_beat, "beat: Starting...")
    flowing = asyncio.create_task(flow(connections, task, 0, 600, 200))
    for done in (100, 200, 300):
        await connections.settled_at_least(task, done)
        await connections.broker.flushdb()
    await flowing
    await connections.settled(task, 600)
    await connections.assert_one_result_each(task, range(600))
