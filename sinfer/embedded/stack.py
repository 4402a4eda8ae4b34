"""All of sinfer on this machine: servers, model and sinfer's own processes, on free ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from sinfer.embedded.backing import BackingServers
from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import (
    Place,
    Service,
    beat_service,
    flower_service,
    ingest_service,
    worker_service,
)
from sinfer.products.scenario import Demonstration, Surroundings


class EmbeddedStack:
    """What a deployment has, in child processes, with all their files in one directory.

    No process and no file outlives it, however this process ends.

    Args:
        scenario: the product and its demonstration.
        tell: is called with a few words before each step.
        modules: modules that hold products, as in ``SINFER_PRODUCTS``.
        concurrency: child processes of the one Celery worker.

    Attributes:
        services: sinfer's own processes, in the order in which they were started.
        flower_url: where Flower is, for this machine only.
    """

    def __init__(
        self,
        scenario: Demonstration,
        *,
        tell: Callable[[str], None],
        modules: Sequence[str],
        concurrency: int = 2,
    ) -> None:
        self._scenario = scenario
        self._modules = modules
        self._concurrency = concurrency
        self._tell = tell
        self._flower_port = free_port()
        self.flower_url = f"http://127.0.0.1:{self._flower_port}"
        self.services: list[Service] = []
        self._backing = BackingServers(tell=tell, model_module=scenario.model_server)

    @property
    def directory(self) -> Path:
        """All data and logs."""
        return self._backing.directory

    @property
    def nats_url(self) -> str:
        return self._backing.nats.url

    @property
    def database_path(self) -> Path:
        """The SQLite file that results go to."""
        return self.directory / "results.sqlite"

    @property
    def surroundings(self) -> Surroundings:
        """Where an experiment finds everything."""
        return Surroundings(self.nats_url, self._database_url, self.check)

    @property
    def _database_url(self) -> str:
        return f"sqlite:///{self.database_path}"

    @property
    def environment(self) -> dict[str, str]:
        """What is added to the environment of sinfer's processes."""
        return {
            **self._backing.environment,
            **self._scenario.environment(self._backing.model.url, self._database_url),
            "SINFER_PRODUCTS": ",".join(self._modules),
            "FLOWER_UNAUTHENTICATED_API": "true",  # read only, and on the loopback interface
        }

    def start_servers(self) -> None:
        """Start NATS, Redis and the model server.

        Raises:
            UnavailableError: one of them did not start; the text ends with its log.
        """
        self._backing.start()

    def start_services(self) -> None:
        """Start sinfer's own processes side by side, and wait until all are ready.

        Raises:
            UnavailableError: one of them ended or is not ready in time.
        """
        temporary = self.directory / "tmp"  # what a killed process leaves there goes with the rest
        temporary.mkdir()
        environment = {**os.environ, **self.environment, "TMPDIR": str(temporary)}
        place = Place(self.directory, environment)
        self.services = [
            worker_service(place, concurrency=self._concurrency),
            beat_service(place),
            ingest_service(place, self._scenario.product),
            flower_service(place, self._flower_port),
        ]
        self._tell("starting ingest, worker, beat and Flower")
        for service in self.services:
            self._backing.run(service.process)
        for service in self.services:
            service.wait_until_ready()

    def check(self) -> None:
        """Make sure that sinfer's own processes still run.

        Raises:
            UnavailableError: one of them ended; the text ends with its log.
        """
        for service in self.services:
            service.check()

    def stop(self) -> None:
        """Stop everything, in the reverse order, and remove the directory."""
        self._backing.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
