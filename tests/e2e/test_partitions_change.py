"""A task that is cut into other partitions, or into one, while messages come: each counts once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sinfer.store.keys import read_marks
from tests.support.deployment import Connections, Deployment, Task, rows
from tests.support.until import until

pytestmark = pytest.mark.e2e

SUBJECTS = 4
MODES: dict[str, dict[str, Any]] = {"position": {}, "done": {"ack": "done"}}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("cut")) as deployment:
        deployment.start_servers()
        deployment.start(
            deployment.ingest(), deployment.ingest(), deployment.beat(), deployment.worker()
        )
        yield deployment


class Stream:
    """Messages on some subjects, one after the other, until told to stop."""

    def __init__(self, connections: Connections, task: Task) -> None:
        self._jetstream = connections.jetstream
        self._task = task
        self.count = 0
        self._stops = False

    async def run(self) -> None:
        while not self._stops:
            subject = f"{self._task.subject}.{self.count % SUBJECTS}"
            await self._jetstream.publish(subject, json.dumps({"id": self.count}).encode())
            self.count += 1
            await asyncio.sleep(0.002)

    def stop(self) -> None:
        self._stops = True


@pytest.mark.parametrize("mode", MODES)
async def test_each_message_counts_once_whatever_the_partitions_are(
    deployment: Deployment, connections: Connections, mode: str
) -> None:
    name = f"cut-{mode}"
    window = {"type": "count", "count": 5, "max_wait": "500ms"}
    one: dict[str, Any] = {"subject": f"in.{name}.>"}
    each: dict[str, Any] = {"partitions": [f"in.{name}.{n}" for n in range(SUBJECTS)]}
    some: dict[str, Any] = {"partitions": [f"in.{name}.0", f"in.{name}.1"]}
    task = Task(deployment, name)
    await connections.jetstream.add_stream(name=name, subjects=[f"{task.subject}.>"])
    await connections.jetstream.add_stream(name=f"{name}-out", subjects=[task.results])
    stream = Stream(connections, task)
    coming = asyncio.create_task(stream.run())
    position = 0

    async def goes_on() -> bool:
        return len(rows(task)) > position + 100

    for number, cut in enumerate((one, each, some, one, each)):
        source = {"stream": name, "batch": 10, **MODES[mode], **cut}
        deployment.order(name, source=source, window=window)
        if number:
            await until(goes_on, f"results under {cut}", every_s=0.1)
        else:
            await until(lambda: task.database.exists() and bool(rows(task)), every_s=0.1)
        position = len(rows(task))
    stream.stop()
    await coming
    expected = range(stream.count)

    async def all_are_there() -> bool:
        return {row["id"] for row in rows(task)} >= set(expected)

    await until(all_are_there, "all results", every_s=0.2)
    found = Counter(row["id"] for row in rows(task))
    assert found == Counter(expected), "each once"


async def test_a_task_that_is_gone_begins_anew_when_it_comes_back(
    deployment: Deployment, connections: Connections
) -> None:
    task = deployment.order("back", source={"stream": "back", "subject": "in.back.>"})
    await connections.jetstream.add_stream(name="back", subjects=["in.back.>"])
    await connections.jetstream.add_stream(name="back-out", subjects=[task.results])
    await connections.jetstream.publish("in.back.a", b'{"id": 1}')
    await until(lambda: task.database.exists() and len(rows(task)) == 1)
    deployment.order("back", source={"stream": "back", "partitions": ["in.back.a", "in.back.b"]})
    await connections.jetstream.publish("in.back.a", b'{"id": 2}')
    await until(lambda: len(rows(task)) == 2)
    marks = read_marks(deployment.product, "back")

    async def is_marked() -> bool:
        return bool(await connections.redis.exists(marks))

    await until(is_marked)
    deployment.withdraw(task)

    async def is_forgotten() -> bool:
        return not await connections.redis.exists(marks)

    await until(is_forgotten)
