"""A worker that finds more hints than work does the work at once, on all tasks at a time."""

from __future__ import annotations

import pytest

from sinfer.tasks.application import make_app
from sinfer.types.queues import PROCESS_TASK, product_queue
from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.scripted_model import ScriptedModel
from tests.support.until import until

pytestmark = pytest.mark.e2e

TASKS = 12
OLD_HINTS = 600
ANSWER_S = 1.5
"""How long the model takes."""


async def test_a_worker_works_at_once_whatever_hints_it_finds_and_on_all_tasks_at_a_time(
    deployment: Deployment, connections: Connections
) -> None:
    with ScriptedModel() as model:
        model.delay_s = ANSWER_S
        await find_old_hints(deployment, connections, model)


async def find_old_hints(
    deployment: Deployment, connections: Connections, model: ScriptedModel
) -> None:
    deployment.start_servers(deployment.nats, deployment.redis)
    deployment.start(deployment.ingest(), deployment.beat())
    inference = {"type": "v2", "url": model.url, "model": "example", "timeout": "60s"}
    tasks = [
        await ordered(
            deployment, connections, f"task{n}", inference=inference,
            window={"type": "count", "count": 1},
        )
        for n in range(TASKS)
    ]  # fmt: skip
    for task in tasks:
        await connections.publish(task, numbers(0, 1))

    async def all_wait() -> bool:
        return all([(await connections.account(task)).held == 1 for task in tasks])

    await until(all_wait, "a window of each task to wait")
    # As if no worker had been there for long: hints of what was done since by others.
    await connections.broker.flushdb()
    app = make_app([])
    app.conf.update(broker_url=deployment.redis.url.rpartition("/")[0] + "/1")
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(OLD_HINTS):
            app.send_task(
                PROCESS_TASK,
                kwargs={
                    "product": deployment.product,
                    "task": f"task{number % TASKS}",
                    "partition": f"gone.{number % 300}",
                    "windows": 16,
                },
                queue=product_queue(deployment.product),
                producer=producer,
            )
    app.close()
    deployment.start(deployment.worker(concurrency=2))
    await until(lambda: len(model.calls) == TASKS, "the model to be asked by all")
    assert model.most_at_once == TASKS
    assert model.calls[-1].at - model.calls[0].at < ANSWER_S
    for task in tasks:
        await connections.settled(task, 1)

    async def nothing_waits() -> bool:
        return not await connections.broker.llen(product_queue(deployment.product))

    await until(nothing_waits, "old hints to be discarded", timeout_s=90)
