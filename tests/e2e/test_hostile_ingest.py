"""Product code at ingest that is slow, never returns, or ends its process, on real processes.

Whoever restarts an ingestor (systemd, Compose, Kubernetes, `sinfer up`) is played by the test.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from sinfer.embedded.services import Service, program
from sinfer.store.keys import PartitionKeys
from sinfer.windows.dead_letters import DeadLetter
from tests.support.deployment import Connections, Deployment, Task, numbers, ordered
from tests.support.until import until

pytestmark = pytest.mark.e2e

PRODUCT = """
import ctypes, os, signal, sys, time
from counting import FileTasks, Pipeline as Usual
from sinfer import Product


class Panic(BaseException):
    pass


def act(do, hook):
    what, _, where = do.partition("@")
    if (where or "preprocess") != hook:
        return
    match what.split():
        case ["sleep", seconds]: time.sleep(float(seconds))
        case ["hang"]: time.sleep(1e9)
        case ["hold", seconds]: ctypes.PyDLL(None).sleep(int(seconds))  # and the interpreter
        case ["segv"]: ctypes.string_at(0)
        case ["leave", code]: os._exit(int(code))
        case ["kill"]: os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]: sys.exit(7)
        case ["panic"]: raise Panic("a panic of a Rust extension")


class Hostile(Usual):
    def __init__(self, task):
        super().__init__(task)
        if task.id.startswith("fatal"):
            ctypes.string_at(0)

    def preprocess(self, message):
        item = super().preprocess(message)
        act(item.get("do", ""), "preprocess")
        return item

    def key(self, item):
        act(item.get("do", ""), "key")
        return super().key(item)


class Closing(Hostile):
    def close_when(self, window, item):
        act(item.get("do", ""), "close_when")
        return window.count >= 10


product = Product("hostile", tasks=FileTasks(), pipeline=Hostile)
"""


class Restarted:
    """An ingestor that is started again whenever it has ended, as a supervisor of processes does.

    Attributes:
        services: one for each time that it was started.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._loop = asyncio.create_task(self._keep())
        self.services: list[Service] = []

    async def _keep(self) -> None:
        while True:
            if not self.services or not self.services[-1].process.is_running:
                self.services.append(self._deployment.ingest())
                self._deployment.start(self.services[-1])
            await asyncio.sleep(0.1)

    @property
    def log(self) -> str:
        return "".join(service.process.log.read_text() for service in self.services)

    async def end(self) -> None:
        self._loop.cancel()
        with suppress(asyncio.CancelledError):
            await self._loop
        self.services[-1].stop()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("hostile")) as deployment:
        deployment.product = "hostile"
        deployment.variables["SINFER_PRODUCTS"] = "hostile"
        (deployment.directory / "hostile.py").write_text(PRODUCT)
        deployment.start_servers(deployment.nats, deployment.redis)
        yield deployment


@pytest.fixture
async def ingestor(deployment: Deployment) -> AsyncIterator[Restarted]:
    restarted = Restarted(deployment)
    yield restarted
    await restarted.end()


COUNT = {"window": {"type": "count", "count": 10}}


async def fetched(connections: Connections, task: Task) -> int:
    account = await connections.account(task)
    assert account.balances, account
    return account.fetched


async def all_fetched(
    connections: Connections, task: Task, count: int, timeout_s: float = 120
) -> None:
    async def are() -> bool:
        return await fetched(connections, task) == count

    await until(are, f"{count} messages of {task.id} to be fetched", timeout_s)


async def windows(connections: Connections, task: Task) -> list[tuple[int, int]]:
    """Count and first sequence of the closed windows, in order."""
    from sinfer.windows.records import unpack_closed

    found: Any = await connections.redis.hgetall(PartitionKeys(task.scope).closed)
    closed = [unpack_closed(name, value).record for name, value in found.items()]
    return sorted((record.first_seq, record.count) for record in closed)


async def letters(connections: Connections, task: Task) -> dict[int, DeadLetter]:
    return {one.message.stream_seq: one for one in await connections.dead_letters(task)}


def status(deployment: Deployment) -> str:
    done = subprocess.run(
        [program("sinfer"), "status"],
        env=deployment.place.environment, cwd=deployment.directory,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("segv", "ended its process: SIGSEGV"),
        pytest.param("leave 5@key", "exit code 5", marks=pytest.mark.long),
        pytest.param("kill", "SIGKILL", marks=pytest.mark.long),
        pytest.param("segv@close_when", "SIGSEGV", marks=pytest.mark.long),
    ],
)
async def test_who_ends_the_process_dies_alone_after_two_deaths(
    deployment: Deployment, connections: Connections, do: str, reason: str
) -> None:
    name = do.replace(" ", "").replace("@", "-")
    if do.endswith("close_when"):
        text = PRODUCT.replace("pipeline=Hostile", "pipeline=Closing")
        (deployment.directory / "hostile.py").write_text(text)
    parts = {"window": {"type": "count", "count": 1000}} if "close_when" in do else COUNT
    hostile = await ordered(deployment, connections, f"{name}-1", **parts)
    beside = await ordered(deployment, connections, f"{name}-2", **parts)
    messages = numbers(0, 200)
    messages[77]["do"] = do
    messages[150]["do"], messages[151]["do"] = "exit", "panic"
    await connections.publish(hostile, messages)
    await connections.publish(beside, numbers(0, 100))
    ingestor = Restarted(deployment)
    try:
        await all_fetched(connections, hostile, 200)
        await all_fetched(connections, beside, 100)
        assert len(ingestor.services) == 3
        found = await letters(connections, hostile)
        assert sorted(found) == [78, 151, 152]
        assert reason in found[78].error
        assert "SystemExit" in found[151].error
        assert found[152].error == "Panic: a panic of a Rust extension"
        assert json.loads(found[78].message.data) == messages[77]
        assert await connections.dead_letters(beside) == []
        starts = [first for first, _ in await windows(connections, hostile)]
        if parts == COUNT:
            assert starts == [*range(1, 78, 10), *range(82, 151, 10), *range(154, 194, 10)]
        await connections.publish(hostile, numbers(200, 300))
        await all_fetched(connections, hostile, 300)
        assert len(ingestor.services) == 3
    finally:
        await ingestor.end()
        deployment.withdraw(hostile)
        deployment.withdraw(beside)


@pytest.mark.long
async def test_a_slow_hook_is_no_reason_to_take_a_partition_away(
    deployment: Deployment, connections: Connections
) -> None:
    slow = await ordered(deployment, connections, "slow", **COUNT)
    beside = await ordered(deployment, connections, "beside", **COUNT)
    one, other = deployment.ingest(), deployment.ingest()
    deployment.start(one, other)
    one.wait_until_ready()
    await connections.publish(slow, numbers(0, 600, do="sleep 0.025"))
    began_s = time.monotonic()
    owner = await connections.owner(slow)
    await connections.publish(beside, numbers(0, 200))
    await all_fetched(connections, beside, 200, 10)
    await all_fetched(connections, slow, 600, 40)
    assert 600 / (time.monotonic() - began_s) > 30
    assert await connections.owner(slow) == owner
    end_in_peace(deployment, (one, other), (slow, beside))


def end_in_peace(
    deployment: Deployment, ingestors: Iterable[Service], tasks: Iterable[Task]
) -> None:
    """No ingestor took a partition from another one."""
    for service in ingestors:
        assert "another" not in service.process.log.read_text()
        service.stop()
    for task in tasks:
        deployment.withdraw(task)


@pytest.mark.long
async def test_one_message_that_takes_twenty_seconds_costs_nobody_a_lease(
    deployment: Deployment, connections: Connections
) -> None:
    slow = await ordered(deployment, connections, "twenty", **COUNT)
    beside = await ordered(deployment, connections, "others", **COUNT)
    await connections.publish(slow, numbers(0, 30))
    await connections.publish(slow, [{"id": 30, "do": "sleep 20"}])
    await connections.publish(slow, numbers(31, 60))
    one, other = deployment.ingest(), deployment.ingest()
    deployment.start(one, other)
    await until(lambda: "preprocess does not return" in status(deployment), "status to tell")
    text = status(deployment)
    assert "twenty" in text
    assert "stream sequence 31" in text
    assert "no ingestor is alive" not in text
    owner = await connections.owner(slow)
    await connections.publish(beside, numbers(0, 100))
    await all_fetched(connections, slow, 60, 60)
    await all_fetched(connections, beside, 100, 60)
    assert await connections.owner(slow) == owner
    assert "does not return" not in status(deployment)
    meta: Any = await connections.redis.hgetall(PartitionKeys(slow.scope).meta)
    assert b"deaths" not in meta
    end_in_peace(deployment, (one, other), (slow, beside))


@pytest.mark.long
async def test_a_hook_that_keeps_the_interpreter_to_itself_for_a_while_stops_nothing_for_good(
    deployment: Deployment, connections: Connections
) -> None:
    """No thread renews the leases meanwhile: they are lost, and the message is looked at apart."""
    slow = await ordered(deployment, connections, "holding", **COUNT)
    messages = numbers(0, 60)
    messages[20]["do"] = "hold 12"
    await connections.publish(slow, messages)
    one, other = deployment.ingest(), deployment.ingest()
    deployment.start(one, other)
    await all_fetched(connections, slow, 60, 90)
    assert await connections.dead_letters(slow) == []
    for service in (one, other):
        assert service.process.is_running
        service.stop()
    deployment.withdraw(slow)


@pytest.mark.long
async def test_a_hook_that_never_returns_is_ended_and_its_message_dies(
    deployment: Deployment, connections: Connections, ingestor: Restarted
) -> None:
    limits = {"limits": {"hook_timeout": "4s"}}
    hanging = await ordered(deployment, connections, "hanging", **COUNT, **limits)
    beside = await ordered(deployment, connections, "besides", **COUNT)
    messages = numbers(0, 100)
    messages[40]["do"] = "hang"
    messages[70]["do"] = "hang@key"
    await connections.publish(hanging, messages)
    await all_fetched(connections, hanging, 100, 60)
    await connections.publish(beside, numbers(0, 100))
    await all_fetched(connections, beside, 100, 60)
    found = await letters(connections, hanging)
    assert sorted(found) == [41, 71]
    assert "did not return within 4 s (limits.hook_timeout)" in found[41].error
    assert len(ingestor.services) == 2
    assert "preprocess does not return for the message of stream sequence 41" in ingestor.log
    deployment.withdraw(hanging)
    deployment.withdraw(beside)


@pytest.mark.long
async def test_a_pipeline_that_ends_the_process_when_it_is_made_stops_its_own_task(
    deployment: Deployment, connections: Connections, ingestor: Restarted
) -> None:
    fatal = await ordered(deployment, connections, "fatal", **COUNT)
    beside = await ordered(deployment, connections, "unharmed", **COUNT)
    await connections.publish(beside, numbers(0, 100))
    await connections.publish(fatal, numbers(0, 10))
    await all_fetched(connections, beside, 100, 60)
    await until(lambda: "SIGSEGV" in ingestor.log, "the log to tell", 60)
    await connections.publish(beside, numbers(100, 200))
    await all_fetched(connections, beside, 200, 30)
    assert len(ingestor.services) == 3
    deployment.withdraw(fatal)
    deployment.withdraw(beside)
