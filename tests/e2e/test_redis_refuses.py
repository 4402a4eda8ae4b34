"""A Redis that takes nothing for a while, as in a failover: no process ends, no message is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import Service
from tests.support.commands import sinfer
from tests.support.deployment import Connections, Deployment, numbers, ordered

pytestmark = pytest.mark.e2e

LASTS_S = 2.5
"""Longer than any process tries the same thing without a word, and than a lease."""

GREEN = ["REPLICAOF", "NO", "ONE"]
TROUBLES = {
    "READONLY": (["REPLICAOF", "127.0.0.1", "{port}"], GREEN),
    "MASTERDOWN": (["REPLICAOF", "127.0.0.1", "{port}"], GREEN),
    "NOREPLICAS": (
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-to-write", "0"],
    ),
}


@pytest.fixture(scope="module")
def services(deployment: Deployment) -> Iterator[list[Service]]:
    """One of each kind; at the end all of them are still what was started."""
    kinds = (deployment.ingest(), deployment.worker(), deployment.beat())
    with deployment.running(*kinds) as running:
        yield running


@pytest.mark.parametrize("answer", TROUBLES)
async def test_a_redis_that_takes_nothing_is_waited_for(
    deployment: Deployment, connections: Connections, services: list[Service], answer: str
) -> None:
    task = await ordered(
        deployment, connections, answer.lower(), source={
            "stream": answer.lower(), "subject": f"in.{answer.lower()}", "durable": "d", "batch": 5,
        },
    )  # fmt: skip
    begin, end = TROUBLES[answer]
    await connections.process(task, 0, 50)
    processes = [service.process.pid for service in services]
    stale = "no" if answer == "MASTERDOWN" else "yes"
    await connections.redis.config_set("replica-serve-stale-data", stale)
    publishing = asyncio.create_task(connections.publish(task, numbers(50, 300)))
    words = [word.format(port=free_port()) for word in begin]
    await connections.redis.execute_command(*words)  # type: ignore[no-untyped-call]
    await asyncio.sleep(LASTS_S)
    await connections.redis.execute_command(*end)  # type: ignore[no-untyped-call]
    await publishing
    await connections.settled(task, 300)
    await connections.assert_one_result_each(task, range(300))
    assert [service.process.pid for service in services] == processes
    for service in services:
        service.check()
    audited = await sinfer(deployment, "audit")
    assert audited.code == 0, audited
