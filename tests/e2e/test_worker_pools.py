"""Every pool of Celery, and processes that Celery replaces, do each window once and in time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.scripted_model import ScriptedModel
from tests.support.until import until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ANSWER_S = 7.0
"""How long the model takes: longer than a process has that is told to end."""

TASKS = 4


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("pools")) as deployment:
        deployment.start_servers(deployment.nats, deployment.redis)
        deployment.start(deployment.ingest(), deployment.beat())
        yield deployment


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("threads", ["-P", "threads"]),
        ("solo", ["-P", "solo"]),
        ("one", ["--max-tasks-per-child", "1"]),
        ("few", ["--max-tasks-per-child", "10"]),
        ("memory", ["--max-memory-per-child", "1"]),
    ],
)
async def test_each_window_is_asked_about_once(
    deployment: Deployment,
    connections: Connections,
    model: ScriptedModel,
    name: str,
    options: list[str],
) -> None:
    model.calls.clear()
    model.delay_s = ANSWER_S
    worker = deployment.worker(*options, concurrency=2)
    deployment.start(worker)
    inference = {"type": "v2", "url": model.url, "model": "example", "timeout": "60s"}
    window = {"type": "count", "count": 1}
    tasks = [
        await ordered(deployment, connections, f"{name}{n}", inference=inference, window=window)
        for n in range(TASKS)
    ]
    for task in tasks:
        await connections.publish(task, numbers(0, 3))
    for task in tasks:
        await connections.settled(task, 3, 90.0)
        await connections.assert_one_result_each(task, range(3))
    assert len(model.calls) == 3 * TASKS, "a window that is handed back is asked about again"

    # And when it is told to end, it is gone soon, and leaves its windows to others at once.
    model.delay_s = 60.0
    await connections.publish(tasks[0], numbers(3, 4))
    await until(lambda: len(model.calls) > 3 * TASKS, "the model to be asked")
    began_s = time.monotonic()
    worker.process.signal(signal.SIGTERM)
    worker.process.wait(20)
    assert time.monotonic() - began_s < 12
    model.delay_s = 0.0
    other = deployment.worker(concurrency=1)
    deployment.start(other)
    await connections.settled(tasks[0], 4, 20.0)
    other.stop()
