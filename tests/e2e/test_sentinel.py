"""Sentinels for the store and the broker: after each failover, work goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.sentinels import Sentinels
from tests.support.until import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("sentinels")) as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, sentinels: Sentinels
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("failing-over")) as deployment:
        deployment.start_servers(deployment.nats, deployment.model)
        deployment.variables["SINFER_REDIS_URL"] = sentinels.url
        deployment.start(deployment.ingest(), deployment.beat(), deployment.worker())
        yield deployment


async def test_work_goes_on_after_a_failover_and_after_a_primary_is_killed(
    deployment: Deployment, connections: Connections, sentinels: Sentinels
) -> None:
    task = await ordered(deployment, connections, "failing")

    async def come(first: int, last: int) -> None:
        """Publish numbers, and wait for their results."""
        await connections.publish(task, numbers(first, last))
        expected = set(range(first, last))

        async def are_there() -> bool:
            results = await connections.results(task)
            return expected <= {result["id"] for result in results}

        await until(are_there, f"results of {first} to {last}", every_s=0.2)

    await come(0, 100)
    await sentinels.fail_over()
    await come(100, 200)
    primary = await sentinels.primary()
    primary.process.kill()
    try:
        await come(200, 300)
    finally:
        primary.start()
    results = await connections.results(task)
    assert sorted({result["id"] for result in results}) == list(range(300))
