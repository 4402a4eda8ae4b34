"""Each item is paid for once, whatever becomes of the calls and of the workers that make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.deployment import Connections, Deployment, numbers
from tests.support.paid_model import FAILING, Failing, PaidModel

pytestmark = pytest.mark.e2e

AT_ONCE = 8
"""Calls of a task that are under way at once in one worker process."""

WINDOWS, SIZE = 3, 100


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("paid")) as deployment:
        deployment.start_servers(deployment.nats, deployment.redis)
        deployment.start(deployment.beat(), deployment.ingest())
        yield deployment


@pytest.fixture
async def connections(deployment: Deployment) -> AsyncIterator[Connections]:
    connections = await Connections.open(deployment)
    yield connections
    await connections.aclose()


async def pay(
    deployment: Deployment, connections: Connections, failing: Failing, rate: float, kills: int
) -> None:
    """Process three windows of a hundred calls each, and kill workers meanwhile."""
    with PaidModel(failing, rate, seed=11) as model:
        task = deployment.order(
            f"paid-{failing}-{round(100 * rate)}".replace("time-out", "timeout"),
            window={"type": "count", "count": SIZE, "max_wait": "1s"},
            inference={
                "type": "v2",
                "url": model.url,
                "model": "example",
                "max_batch": 1,
                "max_concurrency": AT_ONCE,
                "timeout": "400ms",
                "retry_base": "50ms",
                "retry_max": "200ms",
            },
            limits={"lease": "2s", "max_attempts": 50},
        )
        await connections.make_streams(task)
        await connections.publish(task, numbers(0, WINDOWS * SIZE))
        for kill in range(kills):
            worker = deployment.worker(concurrency=1)
            deployment.start(worker)
            await model.has_answered(80 * (kill + 1))
            worker.process.kill()
        last = deployment.worker(concurrency=1)
        deployment.start(last)
        account = await connections.settled(task, WINDOWS * SIZE)
        assert (account.sunk, account.dead) == (WINDOWS * SIZE, 0)
        await connections.assert_one_result_each(task, range(WINDOWS * SIZE))
        await asyncio.to_thread(last.stop)
        assert set(model.paid) == set(range(WINDOWS * SIZE))
        again = {row: count for row, count in model.paid.items() if count > 1}
        assert sum(again.values()) - len(again) <= kills * AT_ONCE, again
        assert model.most_under_way == AT_ONCE


@pytest.mark.parametrize("failing", ["429", "closed"])
async def test_an_item_is_paid_once_and_again_only_for_who_was_killed(
    deployment: Deployment, connections: Connections, failing: Failing
) -> None:
    await pay(deployment, connections, failing, 0.05, kills=1)


@pytest.mark.long
@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("failing", FAILING)
async def test_an_item_is_paid_once_at_every_rate(
    deployment: Deployment, connections: Connections, failing: Failing, rate: float
) -> None:
    await pay(deployment, connections, failing, rate, kills=3)
