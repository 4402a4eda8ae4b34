"""sinfer's own processes, started as a user starts them, and how to tell that they are ready."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sinfer.embedded.process import ChildProcess
from sinfer.errors import UnavailableError

READY_TIMEOUT_S = 40.0
"""How long a process may take to start; they are slow when all start at once on a small machine."""

Readiness = Callable[[ChildProcess], bool]


def program(name: str) -> str:
    """Path of a console script of this Python environment."""
    return str(Path(sys.executable).parent / name)


def logged(text: str) -> Readiness:
    """Ready once the log holds this text."""
    return lambda process: text in process.log.read_text(errors="replace")


def answers(url: str) -> Readiness:
    """Ready once a GET of this URL gives status 200."""

    def check(process: ChildProcess) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return check


INGEST_READY = logged("reads stream")
WORKER_READY = logged(" ready.")
BEAT_READY = logged("beat: Starting...")


class Service:
    """One of sinfer's processes.

    Args:
        name: for messages and the name of the log.
        command: program and arguments; console scripts of this environment need no path.
        ready: tells whether it is ready.
        directory: where its log goes.
        environment: its whole environment.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        ready: Readiness,
        *,
        directory: Path,
        environment: Mapping[str, str],
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._ready = ready
        words = [program(command[0]), *command[1:]]
        log = directory / f"{name}.log"
        self.process = ChildProcess(name, words, log=log, env=environment, cwd=cwd)

    def start(self) -> None:
        """Start it; does not wait."""
        self.process.start()

    def wait_until_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return once it is ready.

        Raises:
            UnavailableError: it ended or was not ready in time; the text ends with its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready(self.process):
            self.check()
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{self.name} is not ready after {timeout_s:.0f} s:\n{self.process.tail()}"
                )
            time.sleep(0.05)

    def check(self) -> None:
        """Make sure that it runs.

        Raises:
            UnavailableError: it ended; the text ends with its log.
        """
        if not self.process.is_running:
            raise UnavailableError(
                f"{self.name} ended with code {self.process.returncode}:\n{self.process.tail()}"
            )

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after the grace time."""
        self.process.stop(grace_s)


def ingest_service(
    product: str, *, directory: Path, environment: Mapping[str, str], name: str = "ingest"
) -> Service:
    """`sinfer ingest` for one product."""
    command = ["sinfer", "ingest", "--product", product]
    return Service(name, command, INGEST_READY, directory=directory, environment=environment)


def worker_service(
    *,
    directory: Path,
    environment: Mapping[str, str],
    concurrency: int = 2,
    name: str = "worker",
    options: Sequence[str] = (),
) -> Service:
    """`celery worker` with as many child processes as ``concurrency``."""
    command = [
        "celery", "-A", "sinfer.tasks", "worker", "--loglevel", "INFO",
        "--hostname", f"{name}@%h", "--concurrency", str(concurrency), *options,
    ]  # fmt: skip
    return Service(name, command, WORKER_READY, directory=directory, environment=environment)


def beat_service(
    *, directory: Path, environment: Mapping[str, str], name: str = "beat"
) -> Service:
    """`celery beat`, whose schedule file goes to the directory."""
    command = [
        "celery", "-A", "beat_schedule", "beat", "--loglevel", "INFO",
        "--schedule", str(directory / f"{name}-schedule"),
    ]  # fmt: skip
    return Service(name, command, BEAT_READY, directory=directory, environment=environment)


def flower_service(
    port: int, *, directory: Path, environment: Mapping[str, str], name: str = "flower"
) -> Service:
    """`celery flower`, for this machine only: to look at, not to touch."""
    command = [
        "celery", "-A", "sinfer.tasks", "flower",
        "--address=127.0.0.1", f"--port={port}", "--read_only=True",
    ]  # fmt: skip
    ready = answers(f"http://127.0.0.1:{port}/healthcheck")
    return Service(name, command, ready, directory=directory, environment=environment)
