"""All of sinfer on this machine: servers, model and sinfer's own processes, on free ports."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from sinfer.embedded.guardian import Guardian
from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.process import ChildProcess, free_port
from sinfer.embedded.servers import EmbeddedServer, NatsServer, RedisServer
from sinfer.embedded.services import (
    Place,
    Service,
    beat_service,
    flower_service,
    ingest_service,
    worker_service,
)
from sinfer.products.scenario import Scenario


def _silent(text: str) -> None:
    """Say nothing."""


class EmbeddedStack:
    """What a deployment has, in child processes, with all their files in one directory.

    No process and no file outlives it, however this process ends.

    Args:
        scenario: the product and its demonstration.
        concurrency: child processes of the one Celery worker.
        tell: is called with a few words before each step.

    Attributes:
        directory: all data and logs.
        environment: what was added to the environment of sinfer's processes.
        services: sinfer's own processes, in the order in which they were started.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        concurrency: int = 2,
        tell: Callable[[str], None] = _silent,
    ) -> None:
        self._scenario = scenario
        self._concurrency = concurrency
        self._tell = tell
        self._servers: list[EmbeddedServer] = []
        self._guardian: Guardian | None = None
        self.services: list[Service] = []
        self.environment: dict[str, str] = {}
        self.directory = Path(tempfile.mkdtemp(prefix="sinfer-demo-"))

    @property
    def nats_url(self) -> str:
        return self.environment["SINFER_NATS_SERVERS"]

    @property
    def database_path(self) -> Path:
        """The SQLite file that results go to."""
        return self.directory / "results.sqlite"

    @property
    def flower_url(self) -> str:
        return f"http://127.0.0.1:{self._flower_port}"

    def start_servers(self) -> None:
        """Start NATS, Redis and the model server.

        Raises:
            UnavailableError: one of them did not start; the text ends with its log.
            ConfigError: the extra ``embedded`` is not installed.
        """
        self._guardian = Guardian(self.directory)
        nats = NatsServer(self.directory / "nats")
        redis = RedisServer(self.directory / "redis")
        model = ModelServer(self.directory / "model")
        for server in (nats, redis, model):
            self._tell(f"starting {server.name}")
            self._servers.append(server)
            server.start()
            self._guardian.watch(server.process.pid)
        self._flower_port = free_port()
        self.environment = {
            "SINFER_NATS_SERVERS": nats.url,
            "SINFER_REDIS_URL": redis.url,
            "SINFER_BROKER_URL": "",
            "FLOWER_UNAUTHENTICATED_API": "true",  # read only, and on the loopback interface
            **self._scenario.environment(model.url, f"sqlite:///{self.database_path}"),
        }

    def start_services(self) -> None:
        """Start sinfer's own processes side by side, and wait until all are ready.

        Raises:
            UnavailableError: one of them ended or is not ready in time.
        """
        place = Place(self.directory, {**os.environ, **self.environment})
        self.services = [
            worker_service(place, concurrency=self._concurrency),
            beat_service(place),
            ingest_service(place, self._scenario.product),
            flower_service(place, self._flower_port),
        ]
        self._tell("starting ingest, worker, beat and Flower")
        for service in self.services:
            self._start(service)
        for service in self.services:
            self._tell(f"waiting for {service.name}")
            service.wait_until_ready()

    def check(self) -> None:
        """Make sure that all of it still runs.

        Raises:
            UnavailableError: a process ended; the text ends with its log.
        """
        for service in self.services:
            service.check()

    def stop(self) -> None:
        """Stop everything, in the reverse order, and remove the directory."""
        try:
            for service in reversed(self.services):
                self._stop(service.process)
            for server in reversed(self._servers):
                self._stop(server.process)
        finally:
            if self._guardian is None:
                self.directory.rmdir()
            else:
                self._guardian.dismiss()

    def _start(self, service: Service) -> None:
        service.start()
        if self._guardian is not None:
            self._guardian.watch(service.process.pid)

    def _stop(self, process: ChildProcess) -> None:
        if process.returncode is None and not process.is_running:
            return  # never started
        process.stop()
        if self._guardian is not None:
            self._guardian.forget(process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
