"""A whole system that runs from an installation: every process, every command, real messages."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import BEAT_READY, INGEST_READY, WORKER_READY, answers
from tests.install.environment import Installation
from tests.support.deployment import Connections, Deployment, Task, ordered
from tests.support.until import until

MESSAGES = 25
"""Two windows that close by count, and one that closes only when beat's tick finds it."""

LIST_COMMANDS = """
import json
import click
from sinfer.cli import main

def walk(command, words):
    yield words
    for name, further in getattr(command, "commands", {}).items():
        yield from walk(further, [*words, name])

print(json.dumps(list(walk(main, []))))
"""


def every_command_has_help(installation: Installation) -> None:
    """Each command of `sinfer` can be loaded and describes itself."""
    commands = json.loads(installation.run("python", "-c", LIST_COMMANDS))
    assert len(commands) > 20
    for words in commands:
        assert "Usage: sinfer" in installation.run("sinfer", *words, "--help")


async def a_system_works(installation: Installation, deployment: Deployment, task_id: str) -> None:
    """Ingestor, worker, beat and Flower process messages, and the commands tell of it.

    Args:
        deployment: servers that run, and a product.
        task_id: of the task to order; also the name of its stream.
    """
    product = deployment.product
    installation.variables |= {
        "SINFER_NATS_SERVERS": deployment.nats.url,
        "SINFER_REDIS_URL": deployment.redis.url,
        "SINFER_PRODUCTS": product,
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    source = deployment.directory / f"{product}.py"
    (installation.cwd / source.name).write_text(source.read_text())
    port = free_port()
    celery = ("celery", "-A", "sinfer.tasks")
    services = [
        installation.service("ingest", ("sinfer", "ingest", "--product", product), INGEST_READY),
        installation.service(
            "worker", (*celery, "worker", "--loglevel", "INFO", "-c", "1"), WORKER_READY
        ),
        installation.service(
            "beat", ("celery", "-A", "beat_schedule", "beat", "--loglevel", "INFO"), BEAT_READY
        ),
        installation.service(
            "flower",
            (*celery, "flower", f"--port={port}"),
            answers(f"http://127.0.0.1:{port}/healthcheck"),
        ),
    ]
    connections = await Connections.open(deployment)
    with ExitStack() as ending:
        try:
            task = await ordered(deployment, connections, task_id)
            for service in services:
                ending.callback(service.process.kill)
                service.start()
            for service in services:
                service.wait_until_ready()
            messages = installation.cwd / "messages.jsonl"
            messages.write_text("".join(f'{{"id": {n}}}\n' for n in range(MESSAGES)))
            chosen = ("--product", product, "--task", task_id)
            installation.run("sinfer", "publish", *chosen, "--input", str(messages))
            await connections.settled(task, MESSAGES)
            await connections.assert_one_result_each(task, range(MESSAGES))
            window = _commands_tell_of_it(installation, product, task)

            def flower_shows_it() -> bool:
                # Flower asks workers for events every 5 s, and sees only what is done after that.
                if f"{product}/{task.id}" in _shown_by_flower(port):
                    return True
                installation.run("sinfer", "windows", "rerun", window, "--wait")
                return False

            await until(flower_shows_it, "Flower to show windows")
            for service in services:
                service.process.signal(15)
            for service in services:
                assert service.process.wait(30) == 0, service.process.tail()
        finally:
            await connections.aclose()


def _commands_tell_of_it(installation: Installation, product: str, task: Task) -> str:
    """Run the commands that look at a task and steer it; returns a window of it."""
    chosen = ("--product", product, "--task", task.id)

    def told(*words: str) -> str:
        return installation.run("sinfer", *words)

    assert json.loads(told("status", *chosen, "--json"))
    assert json.loads(told("audit", *chosen, "--json"))
    assert json.loads(told("check", *chosen, "--json"))
    windows = json.loads(told("windows", "list", *chosen, "--json"))
    window = str((windows[0] if isinstance(windows, list) else windows["windows"][0])["window"])
    assert window in told("windows", "show", window)
    told("windows", "rerun", window, "--wait")
    assert task.id in told("where", *chosen, "--seq", "1")
    told("dlq", "list", *chosen, "--json")
    told("pause", *chosen)
    told("resume", *chosen)
    told("drain", *chosen, "--timeout", "30s")
    told("resume", *chosen)
    return window


def _shown_by_flower(port: int) -> set[str]:
    """The names of what Flower saw end well."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/tasks?limit=500", timeout=10) as read:
        tasks = json.loads(read.read())
    return {found["name"] for found in tasks.values() if found["state"] == "SUCCESS"}


def a_new_product_works(installation: Installation, tests_run: bool) -> None:
    """`sinfer new` writes a product that runs at once; with pytest, its test passes."""
    place: Path = installation.cwd
    installation.run("sinfer", "new", "pumps")
    project = place / "pumps"
    told = installation.run(
        "sinfer", "run", "--product", "pumps", "--input", "pumps/samples.jsonl",
        "--virtual-time", "--json", cwd=project,
    )  # fmt: skip
    assert len([line for line in told.splitlines() if line.startswith("{")]) > 0
    if tests_run:
        assert "2 passed" in installation.run("pytest", "-q", "-p", "no:cacheprovider", cwd=project)


async def a_new_product_works_where_it_is_installed(
    installation: Installation, deployment: Deployment, install: Callable[[Path], object]
) -> None:
    """What `sinfer new` wrote is installed, and all processes find it from elsewhere.

    Args:
        install: puts the project in this directory into the installation.
    """
    projects = installation.directory / "projects"
    projects.mkdir()
    installation.run("sinfer", "new", "pumps", cwd=projects)
    install(projects / "pumps")
    samples = str(projects / "pumps" / "pumps" / "samples.jsonl")
    installation.variables |= {
        "SINFER_NATS_SERVERS": deployment.nats.url,
        "SINFER_REDIS_URL": deployment.redis.url,
    }
    run = ("sinfer", "run", "--input", samples, "--virtual-time", "--no-sinks")
    for place in (installation.cwd, projects):  # where the project's folder has the package's name
        assert "60 fetched, 60 sunk" in installation.run(*run, cwd=place)
    installation.run("python", "-m", "sinfer.local.make_streams", "pumps")
    services = [
        installation.service("ingest", ("sinfer", "ingest"), INGEST_READY),
        installation.service(
            "worker", ("celery", "-A", "sinfer.tasks", "worker", "-l", "INFO", "-c", "1"),
            WORKER_READY,
        ),
        installation.service(
            "beat", ("celery", "-A", "beat_schedule", "beat", "-l", "INFO"), BEAT_READY
        ),
    ]  # fmt: skip
    results = installation.cwd / "pumps.jsonl"
    with ExitStack() as ending:
        for service in services:
            ending.callback(service.process.kill)
            service.start()
        for service in services:
            service.wait_until_ready()
        installation.run("sinfer", "publish", "--product", "pumps", "--input", samples)
        await until(
            lambda: results.exists() and len(results.read_text().splitlines()) == 60, "60 results"
        )
        installation.run("sinfer", "audit", "--product", "pumps")
