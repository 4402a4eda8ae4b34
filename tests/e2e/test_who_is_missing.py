"""Who is missing is told, with what to type, and what is typed then helps."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sinfer.embedded.servers import RedisServer
from sinfer.embedded.services import Service, program
from sinfer.store.boards.running_processes import Presence, PresenceBoard
from sinfer.store.connection import Store
from tests.support.commands import run_sinfer
from tests.support.deployment import Connections, Deployment, numbers, ordered, wait_for_log
from tests.support.until import until

pytestmark = pytest.mark.e2e

PATIENCE_S = 60.0


@pytest.fixture
async def board(deployment: Deployment) -> AsyncIterator[PresenceBoard]:
    store = Store(deployment.redis.url)
    yield PresenceBoard(store)
    await store.aclose()


def sinfer(deployment: Deployment, *words: str) -> str:
    """What a command prints."""
    return run_sinfer(deployment, *words).out


def status(deployment: Deployment) -> dict[str, Any]:
    """How the product stands."""
    [found, *_] = json.loads(sinfer(deployment, "status", "--json"))
    return dict(found)


async def test_each_is_missed_until_what_is_told_is_typed(
    deployment: Deployment, connections: Connections
) -> None:
    told = sinfer(deployment, "status")
    assert "Nothing was ingested yet." in told
    for text in ("no worker runs", "no beat runs", "no ingestor is alive"):
        assert text in told
    checked = sinfer(deployment, "check")
    for part in ("workers: no worker runs", "beat: no beat runs", "ingestors: no ingestor is"):
        assert f"warning     {deployment.product} {part}" in checked

    task = await ordered(deployment, connections, "missing")
    await connections.publish(task, numbers(0, 25))
    commands = [text.rpartition("terminal: ")[2] for text in status(deployment)["missing"]]
    worker, beat, ingest = commands
    typed: list[Service] = []
    with_settings = dict(deployment.place.environment)
    del with_settings["SINFER_PRODUCTS"]  # the command has it
    for name, command in (("ingest", ingest), ("beat", beat)):
        typed.append(_typed(deployment, name, command, with_settings))
    deployment.start(*typed)
    product = deployment.product
    await wait_for_log(typed[0], f"product {product}: closed windows wait: no worker runs")
    await wait_for_log(typed[1], f"product {product}: closed windows wait: no worker runs")
    found = status(deployment)
    assert [text.partition(";")[0] for text in found["missing"]] == ["no worker runs"]
    assert (found["ingestors"], found["beats"]) == (1, 1)
    assert found["partitions"][0]["waits_ms"] > 0

    deployment.start(_typed(deployment, "worker", worker, with_settings))
    await connections.settled(task, 25)
    # It works on what it finds before the broker has taken it in.
    await until(lambda: status(deployment)["missing"] == [], "nobody to be missed")
    assert status(deployment)["workers"] >= 1
    for service in typed:
        assert service.process.log.read_text().count("no worker runs") == 1


def _typed(deployment: Deployment, name: str, command: str, environment: dict[str, str]) -> Service:
    """A command as it was told, typed into a shell whose path has this environment's programs."""
    path = f"{Path(program('celery')).parent}:{environment['PATH']}"
    place = type(deployment.place)(
        deployment.directory, {**environment, "PATH": path}, cwd=deployment.directory
    )
    service = Service(f"typed-{name}", ["python"], lambda process: process.is_running, place)
    service.process.command = ["bash", "-c", f"exec env {command}"]
    assert shlex.split(command)
    return service


@pytest.mark.long
async def test_a_worker_is_there_in_every_pool_and_goes_when_it_is_killed_frozen_or_cut_off(
    deployment: Deployment, board: PresenceBoard
) -> None:
    with RedisServer(deployment.directory / "broker") as broker:
        usual = dict(deployment.variables)
        solo = deployment.worker("-P", "solo")
        threads = deployment.worker("-P", "threads")
        children = deployment.worker("-Q", f"sinfer.{deployment.product}")
        deployment.variables["SINFER_BROKER_URL"] = broker.url
        cut_off = deployment.worker("-c", "1")
        deployment.variables.clear()
        deployment.variables.update(usual)
        deployment.start(solo, threads, children, cut_off)

        async def found(service: Service) -> list[Presence]:
            workers = (await board.read()).workers
            return [w for w in workers if w.name.partition("@")[0] == service.name]

        async def number(service: Service) -> int:
            return len([w for w in await found(service) if not w.deaf])

        for service, processes in ((solo, 1), (threads, 1), (children, 2), (cut_off, 1)):

            async def is_there(service: Service = service, processes: int = processes) -> bool:
                return await number(service) == processes

            await until(is_there, f"{service.name} to be there", PATIENCE_S)
        [one, _] = await found(children)
        assert one.products == [deployment.product]
        assert one.queues == [f"sinfer.{deployment.product}"]

        threads.process.kill()
        solo.process.signal(signal.SIGSTOP)
        children.process.signal(signal.SIGSTOP)
        broker.process.kill()

        async def all_gone() -> bool:
            return not any([await number(s) for s in (solo, threads, children, cut_off)])

        await until(all_gone, "what is frozen or cut off to be missed", PATIENCE_S)
        assert await found(solo) == await found(threads) == []
        assert "its main process is stopped" in (await found(children))[0].deaf
        assert f"its broker {broker.url.rpartition('/')[0]}" in (await found(cut_off))[0].deaf

        solo.process.signal(signal.SIGCONT)
        children.process.signal(signal.SIGCONT)
        broker.restart()

        async def all_back() -> bool:
            numbers = [await number(service) for service in (solo, children, cut_off)]
            return numbers == [1, 2, 1]

        await until(all_back, "them to be back", PATIENCE_S)
        solo.stop()
        assert await found(solo) == []  # it takes its leave
        for service in (children, cut_off):
            service.process.kill()


def test_the_metrics_have_workers_beats_and_waits(deployment: Deployment) -> None:
    code = (
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from sinfer.operations.metrics import SinferCollector\n"
        "registry = CollectorRegistry()\n"
        "registry.register(SinferCollector())\n"
        "print(generate_latest(registry).decode())\n"
    )
    printed = subprocess.run(
        [program("python"), "-c", code],
        env=dict(deployment.place.environment),
        cwd=deployment.directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    families = {family.name: family for family in text_string_to_metric_families(printed)}
    [workers] = families["sinfer_workers"].samples
    assert workers.labels == {"product": deployment.product}
    assert families["sinfer_beats"].samples[0].value >= 0
    assert "sinfer_waits_seconds" in families


def test_whoever_only_looks_writes_nothing_where_he_is(
    deployment: Deployment, tmp_path: Path
) -> None:
    """`soe` has its tasks in a database, and `example` its results; neither is there."""
    tmp_path.chmod(0o555)
    environment = {**deployment.place.environment, "SINFER_PRODUCTS": "example,soe"}
    for words in (["check"], ["status"], ["audit", "--deep"]):
        finished = subprocess.run(
            [program("sinfer"), *words],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert "Traceback" not in finished.stderr
        assert list(tmp_path.iterdir()) == []
