"""What a start says when something is missing or wrong: a clear line, and never a traceback."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sinfer import exit_codes
from sinfer.embedded.services import program
from tests.support.deployment import Connections, Deployment, wait_for_log

pytestmark = pytest.mark.e2e


@pytest.fixture
def without_servers(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as deployment:
        yield deployment


async def test_servers_that_are_away_are_waited_for_with_a_clear_line(
    without_servers: Deployment,
) -> None:
    deployment = without_servers
    deployment.variables["SINFER_PRODUCTS"] += ",no_such_module"
    task = deployment.order("patience")
    worker, beat, ingest = deployment.worker(), deployment.beat(), deployment.ingest()
    deployment.start(worker, beat, ingest)
    redis = f"127.0.0.1:{deployment.redis.port}"
    await wait_for_log(ingest, f"Redis cannot be reached at redis://{redis}/0 (")
    await wait_for_log(worker, f"@{redis}/1: Error 111 connecting to {redis}")
    await wait_for_log(beat, "beat: Connection error: Error 111 connecting to")

    deployment.start_servers(deployment.redis)
    await wait_for_log(ingest, f"NATS cannot be reached at {deployment.nats.url} (")
    told = ingest.process.log.read_text()
    assert told.count("Redis cannot be reached") == 1

    ingest.process.signal(signal.SIGTERM)
    assert ingest.process.wait(10) == 0
    assert "Traceback" not in ingest.process.log.read_text()
    ingest = deployment.ingest()
    deployment.start(ingest)
    await wait_for_log(ingest, "NATS cannot be reached at ")

    deployment.start_servers()
    connections = await Connections.open(deployment)
    try:
        await connections.make_streams(task)
        await connections.process(task, 0, 25)
        await connections.assert_one_result_each(task, range(25))
    finally:
        await connections.aclose()
    await wait_for_log(worker, "product skipped: product module 'no_such_module' cannot be")
    for service in (worker, beat, ingest):
        service.process.signal(signal.SIGTERM)
    for service in (worker, beat, ingest):
        assert service.process.wait(20) == 0, service.process.tail()
        assert "Traceback" not in service.process.log.read_text(), service.process.tail(100)


@dataclass(frozen=True)
class Mistake:
    """A command that cannot work, and what it has to say."""

    command: list[str]
    environment: dict[str, str]
    told: list[str]


INGEST = ["sinfer", "ingest", "--product"]
WORKER = ["celery", "-A", "sinfer.tasks", "worker"]
BEAT = ["celery", "-A", "beat_schedule", "beat"]
FLOWER = ["celery", "-A", "sinfer.tasks", "flower"]

MISTAKES = {
    "unknown product": Mistake(
        [*INGEST, "nope"], {}, ["product 'nope' is not known", "known: ", "--product package"]
    ),
    "broken product": Mistake(
        [*INGEST, "broken"], {}, ["'broken' cannot be imported: ZeroDivisionError"]
    ),
    "unknown task": Mistake(
        [*INGEST, "counting", "--task", "nope"],
        {},
        ["product 'counting' has no task 'nope'", "it has: fine"],
    ),
    "wrong task": Mistake(
        [*INGEST, "counting", "--task", "wrong"],
        {},
        ["product 'counting', task 'wrong': window.count: ", "got 0"],
    ),
    "no Redis URL": Mistake(
        [*INGEST, "counting"],
        {"SINFER_REDIS_URL": "http://:hunter2@h/"},
        ["redis_url: write redis://"],
    ),
    "unknown setting": Mistake(
        WORKER, {"SINFER_TICKS": "1s"}, ["SINFER_TICKS is unknown; did you mean SINFER_TICK?"]
    ),
    "wrong duration": Mistake(
        BEAT, {"SINFER_TICK": "soon"}, ["tick: 'soon' is no duration: write '250ms'"]
    ),
    "wrong level": Mistake(
        FLOWER, {"SINFER_LOG_LEVEL": "LOUD"}, ["log_level: ", "'WARNING'", "'LOUD'"]
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of all mistakes, which are made side by side."""
    with Deployment(tmp_path_factory.mktemp("mistakes")) as deployment:
        deployment.order("fine")
        deployment.order("wrong", window={"type": "count", "count": 0})
        (deployment.directory / "broken.py").write_text("1 / 0\n")
        place = deployment.place
        running = {
            name: subprocess.Popen(
                [program(mistake.command[0]), *mistake.command[1:]],
                env={**place.environment, **mistake.environment},
                cwd=place.cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name, mistake in MISTAKES.items()
        }
        found = {}
        for name, process in running.items():
            with process, killed_in_the_end(process):
                output, errors = process.communicate(timeout=60)
            found[name] = (process.returncode, output, errors)
    return found


@contextmanager
def killed_in_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_its_code_and_says_the_remedy(
    outcomes: dict[str, tuple[int, str, str]], name: str
) -> None:
    code, output, errors = outcomes[name]
    assert code == exit_codes.CONFIGURATION, errors
    for text in MISTAKES[name].told:
        assert text in errors
    assert "Error: " in errors
    assert "Traceback" not in errors
    assert "hunter2" not in errors
    assert output == ""
