"""What one task waits for holds up no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deployment import Connections, Deployment, Task, numbers, ordered
from tests.support.scripted_model import ScriptedModel
from tests.support.until import until

pytestmark = pytest.mark.e2e

ANSWER_S = 1.5
"""How long the model takes."""


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        model.delay_s = ANSWER_S
        yield model


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, model: ScriptedModel
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("liveness")) as deployment:
        deployment.start_servers(deployment.nats, deployment.redis)
        deployment.start(deployment.ingest(), deployment.beat(), deployment.worker(concurrency=2))
        yield deployment


async def one_by_one(
    deployment: Deployment,
    connections: Connections,
    model: ScriptedModel,
    id: str,
    called: str = "example",
    **more: Any,
) -> Task:
    """A task whose windows have one message each."""
    inference = {"type": "v2", "url": model.url, "model": called, "timeout": "60s", **more}
    window = {"type": "count", "count": 1}
    return await ordered(deployment, connections, id, inference=inference, window=window)


async def wait_s(connections: Connections, task: Task, number: int) -> float:
    """How long a message takes from its publishing to its end, seconds."""
    sent_s = time.monotonic()
    await connections.process(task, number, number + 1)
    return time.monotonic() - sent_s


async def test_a_quiet_task_is_not_pushed_back_by_one_with_a_backlog(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    busy = await one_by_one(deployment, connections, model, "busy", max_concurrency=8)
    quiet = await one_by_one(deployment, connections, model, "quiet")
    await connections.publish(busy, numbers(0, 150))
    await until(lambda: model.at_once == 16, "both processes to have their hands full")
    model.delays_s["example"] = ANSWER_S
    waits_s = []
    for number in range(5):
        waits_s.append(await wait_s(connections, quiet, number))
        assert (await connections.account(busy)).held > 16, "the backlog lasts"
    assert max(waits_s) < 2 * ANSWER_S, waits_s
    model.delays_s["example"] = 0.0
    await connections.settled(busy, 150)


async def test_a_slow_model_leaves_fast_tasks_as_fast_as_they_are_alone(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    # As many windows of the slow one as both processes take by default, and a backlog behind them.
    model.delays_s |= {"slow": 30.0, "fast": 0.1}
    slow = await one_by_one(deployment, connections, model, "slow", called="slow")
    fast = await one_by_one(deployment, connections, model, "fast", called="fast")
    await connections.process(fast, 0, 5)
    alone_s = sorted([await wait_s(connections, fast, number) for number in range(5, 30)])
    under_way = model.at_once
    await connections.publish(slow, numbers(0, 300))
    await until(lambda: model.at_once >= under_way + 128, "both processes to have 64 slow windows")
    beside_s = sorted([await wait_s(connections, fast, number) for number in range(30, 55)])
    assert (await connections.account(slow)).held == 300, "the slow ones were there all the time"
    # Half of the waits say how it is as a rule, the longest whether anything stood in the way.
    assert beside_s[12] < 1.2 * alone_s[12] + 0.02, (alone_s, beside_s)
    assert beside_s[-1] < alone_s[-1] + 1.0, (alone_s, beside_s)
    model.delays_s["slow"] = 0.0
    await connections.settled(slow, 300)


async def test_a_flood_leaves_other_tasks_their_share_of_an_endpoint(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    model.delays_s["shared"] = 0.05
    settings: dict[str, Any] = {"called": "shared", "endpoint_concurrency": 5}
    flood = await one_by_one(deployment, connections, model, "flood", **settings)
    other = await one_by_one(deployment, connections, model, "other", **settings)
    await connections.publish(flood, numbers(0, 1500))  # fifteen seconds of all that it does
    await until(lambda: model.at_once >= 5)
    waits_s = [await wait_s(connections, other, number) for number in range(20)]
    assert (await connections.account(flood)).held > 300, "the flood lasts"
    assert sorted(waits_s)[10] < 0.3, waits_s
    assert max(waits_s) < 1.0, waits_s
    model.delays_s["shared"] = 0.0
    await connections.settled(flood, 1500)


async def test_windows_close_in_time_for_their_results(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    model.delays_s["in time"] = 0.1
    inference = {"type": "v2", "url": model.url, "model": "in time", "timeout": "60s"}
    window = {"type": "count", "count": 1000, "deadline": "500ms"}
    task = await ordered(deployment, connections, "timely", inference=inference, window=window)
    for number in range(0, 60, 3):
        await connections.publish(task, numbers(number, number + 3))
        await connections.fetched(task, number + 3)
    await connections.settled(task, 60)
    results = await connections.results(task)
    assert {result["reason"] for result in results} == {"deadline"}
    assert max(result["size"] for result in results) > 3, "they wait for company as well"


async def test_a_model_that_hangs_delays_no_other_of_the_same_server(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    # More windows than a process has places; one of the tasks gives up at once and breaks off.
    model.delays_s["hanging"] = 600.0
    stuck = [
        await one_by_one(
            deployment, connections, model, f"stuck{n}", called="hanging", max_concurrency=24,
            timeout="10m" if n else "500ms", retry_base="100ms",
        )
        for n in range(4)
    ]  # fmt: skip
    healthy = await one_by_one(deployment, connections, model, "healthy")
    for task in stuck[1:]:
        await connections.publish(task, numbers(0, 60))
    await until(lambda: model.at_once >= 128, "both processes to be full of what hangs")
    asked = len(model.calls)
    await connections.publish(stuck[0], numbers(0, 60))
    await until(lambda: len(model.calls) > asked, "the one that gives up to ask as well")
    waits_s = [await wait_s(connections, healthy, number) for number in range(5)]
    assert max(waits_s) < 5.0, waits_s
    for task in stuck:
        assert (await connections.account(task)).held == 60
