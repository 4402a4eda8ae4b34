"""sinfer's own processes, started as a user starts them, and how to tell that they are ready."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sinfer.embedded.child_process import ChildProcess
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


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Asks what is on this machine, whatever proxy the environment names."""


def answers(url: str) -> Readiness:
    """Ready once a GET of this URL gives status 200."""

    def check(process: ChildProcess) -> bool:
        try:
            with _DIRECT.open(url, timeout=1) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return check


INGEST_READY = logged(": ingesting; ")
WORKER_READY = logged(" ready.")
BEAT_READY = logged("beat: Starting...")


@dataclass(frozen=True, slots=True)
class Place:
    """Where processes run.

    Attributes:
        directory: takes their logs and other files.
        environment: their whole environment.
        cwd: their working directory; this process's by default.
    """

    directory: Path
    environment: Mapping[str, str]
    cwd: Path | None = None


class Service:
    """One of sinfer's processes.

    Args:
        name: for messages and the name of the log.
        command: program and arguments; a console script of this environment needs no path.
        ready: tells whether it is ready.
        place: where it runs.
    """

    def __init__(self, name: str, command: Sequence[str], ready: Readiness, place: Place) -> None:
        self.name = name
        self._ready = ready
        self.process = ChildProcess(
            name,
            [program(command[0]), *command[1:]],
            log=place.directory / f"{name}.log",
            env=place.environment,
            cwd=place.cwd,
        )

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


def ingest_service(place: Place, product: str, *, name: str = "ingest") -> Service:
    """`sinfer ingest` for one product."""
    return Service(name, ["sinfer", "ingest", "--product", product], INGEST_READY, place)


def worker_service(
    place: Place, *, concurrency: int = 2, name: str = "worker", options: Sequence[str] = ()
) -> Service:
    """`celery worker` with as many child processes as ``concurrency``."""
    command = [
        "celery", "-A", "sinfer.tasks", "worker", "--loglevel", "INFO",
        "--hostname", f"{name}@%h", "--concurrency", str(concurrency), *options,
    ]  # fmt: skip
    return Service(name, command, WORKER_READY, place)


def beat_service(place: Place, *, name: str = "beat") -> Service:
    """`celery beat`."""
    command = ["celery", "-A", "beat_schedule", "beat", "--loglevel", "INFO"]
    return Service(name, command, BEAT_READY, place)


def streams_service(place: Place, product: str, *, name: str = "streams") -> Service:
    """Makes the JetStream streams of tasks that come."""
    command = ["python", "-m", "sinfer.local.make_streams", product, "--follow"]
    return Service(name, command, lambda process: process.is_running, place)


def flower_service(place: Place, port: int, *, name: str = "flower") -> Service:
    """`celery flower`, for this machine only: to look at, not to touch."""
    command = [
        "celery", "-A", "sinfer.tasks", "flower",
        "--address=127.0.0.1", f"--port={port}", "--read_only=True",
    ]  # fmt: skip
    return Service(name, command, answers(f"http://127.0.0.1:{port}/healthcheck"), place)
