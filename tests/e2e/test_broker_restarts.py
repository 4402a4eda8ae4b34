"""A broker that is killed and comes back, under load: all processes go on within seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sinfer.embedded.servers import EmbeddedServer, RedisServer
from sinfer.embedded.services import Service
from tests.support.deployment import Connections, Deployment, Task, numbers, ordered, wait_for_log
from tests.support.rabbitmq import RabbitMqServer
from tests.support.sentinels import WatchedRedis
from tests.support.until import until

pytestmark = pytest.mark.e2e

GOES_ON_S = 5.0
"""How long after the return of a broker all may stand still."""

BROKERS: list[Callable[[Path], EmbeddedServer]] = [RedisServer, WatchedRedis, RabbitMqServer]

_LOST = {
    "ingest": "the Celery broker takes no messages (",
    "beat": "the Celery broker takes no messages for",
    "worker": "Connection to broker lost",
}
"""What each kind of process says once it knows that its broker is gone."""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as deployment:
        deployment.start_servers()
        yield deployment


@asynccontextmanager
async def load(connections: Connections, task: Task) -> AsyncIterator[list[int]]:
    """Some hundred messages a second, until the end; yields how many there are then."""
    published = [0]
    ended = asyncio.Event()

    async def publish() -> None:
        while not ended.is_set():
            await connections.publish(task, numbers(published[0], published[0] + 1))
            published[0] += 1
            await asyncio.sleep(0.005)

    publishing = asyncio.create_task(publish())
    try:
        yield published
    finally:
        ended.set()
        await publishing


async def all_go_on(connections: Connections, busy: Task, name: str, since_s: float) -> float:
    """How long it takes from a moment until hints have windows processed, and ticks close them.

    Nobody waits for windows of a task that is new: it is a hint or a tick that a worker learns of
    them by. The last window is not full, and so is closed by a tick.
    """
    before = (await connections.account(busy)).sunk
    window = {"type": "count", "count": 10, "max_wait": "200ms"}
    new = await ordered(connections.deployment, connections, name, window=window)
    await connections.publish(new, numbers(0, 13))

    async def go_on() -> bool:
        is_busy = (await connections.account(busy)).sunk > before
        return is_busy and (await connections.account(new)).sunk == 13

    await until(go_on)
    return time.monotonic() - since_s


async def restarts(
    connections: Connections, broker: EmbeddedServer, rounds: int, outage_s: float = 0.0
) -> list[float]:
    """Seconds in which everything went on after each of so many restarts."""
    deployment = connections.deployment
    deployment.variables["SINFER_BROKER_URL"] = broker.url
    services: dict[str, Service] = {
        "ingest": deployment.ingest(),
        "beat": deployment.beat(),
        "worker": deployment.worker(),
    }
    window = {"type": "tumbling", "size": "200ms"}
    taken: list[float] = []
    with broker, deployment.running(*services.values()):
        busy = await ordered(deployment, connections, "busy", window=window)
        async with load(connections, busy) as published:
            await all_go_on(connections, busy, "first", time.monotonic())
            for round_ in range(1, rounds + 1):
                broker.process.kill()
                await all_know(connections, services, round_)
                await asyncio.sleep(outage_s)
                broker.start()
                back_s = time.monotonic()
                taken.append(await all_go_on(connections, busy, f"new{round_}", back_s))
        await connections.settled(busy, published[0])
        await connections.assert_one_result_each(busy, range(published[0]))
    return taken


async def all_know(connections: Connections, services: dict[str, Service], times: int) -> None:
    """Wait until each process knows that the broker is gone."""
    task = await ordered(connections.deployment, connections, f"lost{times}")
    await connections.publish(task, numbers(0, 10))  # a hint that cannot be sent
    for kind, service in services.items():
        await wait_for_log(service, _LOST[kind], times)


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_broker_that_was_killed_is_used_again_within_5_seconds(
    connections: Connections, tmp_path: Path, kind: Callable[[Path], EmbeddedServer]
) -> None:
    broker = kind(tmp_path / "broker")
    taken = await restarts(connections, broker, 1)
    assert max(taken) <= GOES_ON_S, taken


@pytest.mark.long
@pytest.mark.parametrize("kind", BROKERS)
async def test_the_same_after_many_restarts_and_a_long_outage(
    connections: Connections, tmp_path: Path, kind: Callable[[Path], EmbeddedServer]
) -> None:
    broker = kind(tmp_path / "broker")
    taken = await restarts(connections, broker, 5, outage_s=15.0)
    assert max(taken) <= GOES_ON_S, taken
