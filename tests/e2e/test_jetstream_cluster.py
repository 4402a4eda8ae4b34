"""Streams of three replicas: whatever becomes of the servers, nothing is lost, and each result
comes once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from tests.support.deployment import Deployment, Task, rows
from tests.support.nats_cluster import NatsCluster
from tests.support.until import until

pytestmark = pytest.mark.e2e

SOURCES: dict[str, dict[str, Any]] = {
    "position": {},
    "durable": {"durable": "reader", "ack": "done"},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    with NatsCluster(tmp_path_factory.mktemp("nats")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, cluster: NatsCluster
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("clustered")) as deployment:
        deployment.start_servers(deployment.redis, deployment.model)
        deployment.variables["SINFER_NATS_SERVERS"] = cluster.url
        deployment.start(deployment.ingest(), deployment.beat(), deployment.worker())
        yield deployment


@pytest.fixture
async def client(cluster: NatsCluster) -> AsyncIterator[Client]:
    client = await cluster.connect()
    yield client
    await client.close()


class Feed:
    """Publishes numbers to some tasks, each until the stream has it."""

    def __init__(self, client: Client, tasks: list[Task]) -> None:
        self._client = client
        self._tasks = tasks
        self.count = 0

    async def send(self, numbers: int) -> None:
        for number in range(self.count, self.count + numbers):
            for task in self._tasks:
                await self._publish(task, number)
        self.count += numbers

    async def _publish(self, task: Task, number: int) -> None:
        async def is_stored() -> bool:
            try:
                await self._client.jetstream(timeout=2).publish(
                    task.subject, b'{"id": %d}' % number, headers={"Nats-Msg-Id": str(number)}
                )
            except (NatsError, JetStreamError):
                return False
            return True

        await until(is_stored, "the stream to take a message", every_s=0.2)

    async def all_have_results(self) -> None:
        """Wait for one row for each number in the table, and one result in the stream."""
        expected = list(range(self.count))

        async def are_there(task: Task) -> bool:
            return sorted({row["id"] for row in rows(task)}) == expected

        for task in self._tasks:
            await until(lambda task=task: are_there(task), task.id, every_s=0.2)  # type: ignore[misc]
            assert sorted(row["id"] for row in rows(task)) == expected, "each once"


async def ordered(
    deployment: Deployment, cluster: NatsCluster, client: Client, name: str
) -> tuple[Feed, list[str]]:
    """One task for each way to read, and their streams."""
    tasks, streams = [], []
    for kind, settings in SOURCES.items():
        task_id = f"{name}-{kind}"
        source = {"stream": task_id, "subject": f"in.{task_id}", "batch": 20, **settings}
        task = deployment.order(task_id, source=source)
        for stream, subject in ((task_id, task.subject), (f"{task_id}-out", task.results)):
            await client.jetstream().add_stream(name=stream, subjects=[subject], num_replicas=3)
            streams.append(stream)
        tasks.append(task)
    await cluster.settled(client, *streams)
    feed = Feed(client, tasks)
    await feed.send(30)
    await feed.all_have_results()
    return feed, streams


async def test_work_goes_on_when_leaders_change_and_when_one_is_killed(
    deployment: Deployment, cluster: NatsCluster, client: Client
) -> None:
    feed, streams = await ordered(deployment, cluster, client, "led")
    for stream in streams:
        await cluster.step_down(client, stream)
    await cluster.step_down(client, "led-durable", "reader")
    await feed.send(30)
    await feed.all_have_results()
    node = await cluster.leader(client, "led-position")
    node.process.kill()
    await feed.send(30)
    await feed.all_have_results()
    node.start()
    await cluster.settled(client, *streams)


@pytest.mark.long
async def test_nothing_is_lost_or_doubled_when_most_servers_are_gone_or_all_are_replaced(
    deployment: Deployment, cluster: NatsCluster, client: Client
) -> None:
    feed, streams = await ordered(deployment, cluster, client, "replaced")

    # Two of three are gone for a while: nothing moves, and nothing is lost.
    gone = [cluster.nodes[0], await cluster.leader(client, "replaced-durable")]
    gone = gone if gone[0] is not gone[1] else [gone[0], cluster.nodes[1]]
    for node in gone:
        node.process.kill()
    await asyncio.sleep(2)
    for node in gone:
        node.process.start()
    await feed.send(30)
    await feed.all_have_results()
    await cluster.settled(client, *streams)

    # One after the other is told to go, with a word to its clients before.
    for node in cluster.nodes:
        node.process.signal(signal.SIGUSR2)
        await feed.send(10)
        node.process.stop()
        node.start()
        await cluster.settled(client, *streams)
    await feed.all_have_results()
