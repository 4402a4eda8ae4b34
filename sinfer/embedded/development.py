"""A product at work on this machine for development: restarted when its code changes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from dotenv import dotenv_values

from sinfer.embedded.backing import BackingServers
from sinfer.embedded.child_process import free_port, is_listening
from sinfer.embedded.log_lines import LogLines
from sinfer.embedded.services import (
    Place,
    Service,
    beat_service,
    flower_service,
    ingest_service,
    streams_service,
    worker_service,
)
from sinfer.errors import UnavailableError

USUAL_PORTS = {"nats": 4222, "redis": 6379, "model": 8000, "flower": 5555}
"""Where sinfer's settings look by default, and other terminals with them."""

_STREAMS_TIMEOUT_S = 30.0

_NOTHING = ("", "false")
"""Values that stand for what is so by default."""


def usual_or_free(name: str) -> int:
    """The usual port of a server, or a free one where somebody listens there already."""
    port = USUAL_PORTS[name]
    return free_port() if is_listening(port) else port


class DevelopmentStack:
    """Servers, and sinfer's own processes for one product.

    Args:
        product: name or module of the product.
        environment: from the addresses of the model server and of the database, what leads the
            product to them.
        model_module: the module that is run as the model server.
        modules: modules that hold products, as in ``SINFER_PRODUCTS``.
        tell: is called with a few words before each step.

    Attributes:
        services: sinfer's own processes.
        flower_url: where Flower is, for this machine only.
    """

    def __init__(
        self,
        product: str,
        *,
        environment: Callable[[str, str], Mapping[str, str]],
        model_module: str,
        modules: list[str],
        tell: Callable[[str], None],
    ) -> None:
        self._product = product
        self._own_environment = environment
        self._modules = modules
        self._tell = tell
        self._backing = BackingServers(
            tell=tell,
            model_module=model_module,
            nats_port=usual_or_free("nats"),
            redis_port=usual_or_free("redis"),
            model_port=usual_or_free("model"),
        )
        self._flower_port = usual_or_free("flower")
        self.flower_url = f"http://127.0.0.1:{self._flower_port}"
        self.services: list[Service] = []
        self._logs: dict[str, LogLines] = {}
        self._ended: set[str] = set()

    @property
    def directory(self) -> Path:
        """All data and logs."""
        return self._backing.directory

    @property
    def environment(self) -> dict[str, str]:
        """What is added to the environment of sinfer's processes."""
        database = f"sqlite:///{self.directory / 'results.sqlite'}"
        return {
            **self._backing.environment,
            "SINFER_PRODUCTS": ",".join(self._modules),
            **self._own_environment(self._backing.model.url, database),
        }

    @property
    def exports(self) -> dict[str, str]:
        """What other terminals need in their environment to work with this stack.

        What would be empty is left out, unless it has to take the place of a value that the user
        has set, here or in ``.env``.
        """
        given = {name for name, value in {**dotenv_values(".env"), **os.environ}.items() if value}
        return {k: v for k, v in self.environment.items() if v not in _NOTHING or k in given}

    def write_exports(self) -> Path:
        """Write ``exports`` as a file that sh, bash, zsh and fish can source, and return its path.

        It puts the programs of this Python environment first on the path, too.
        """
        programs = shlex.quote(str(Path(sys.executable).parent))
        lines = [f'export PATH={programs}:"$PATH"']
        lines += [f"export {name}={shlex.quote(value)}" for name, value in self.exports.items()]
        path = self.directory / "env.sh"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start_servers(self) -> None:
        """Start NATS, Redis and the model server.

        Raises:
            UnavailableError: one of them did not start; the text ends with its log.
        """
        self._backing.start()

    def problems(self) -> list[str]:
        """What is wrong with the product's tasks, as far as that shows without any server."""
        return self._ask_product("--look")

    def make_streams(self) -> str:
        """Make the streams that the product's tasks need, as its code is now.

        Returns:
            What went wrong, empty when nothing did.
        """
        return "\n".join(self._ask_product())

    def _ask_product(self, *options: str) -> list[str]:
        """Have the product's code looked at by a program of its own; returns its complaints."""
        try:
            finished = subprocess.run(
                [sys.executable, "-m", "sinfer.local.make_streams", self._product, *options],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=_STREAMS_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return [f"its tasks were not listed within {_STREAMS_TIMEOUT_S:.0f} s"]
        return finished.stderr.strip().splitlines() if finished.returncode else []

    def start_services(self) -> None:
        """Start sinfer's own processes; what they say is in ``new_lines``."""
        temporary = self.directory / "tmp"
        temporary.mkdir()
        environment = {
            **os.environ,
            **self.environment,
            "TMPDIR": str(temporary),
            "FLOWER_UNAUTHENTICATED_API": "true",  # read only, and on the loopback interface
        }
        place = Place(self.directory, environment)
        self.services = [
            ingest_service(place, self._product),
            worker_service(place),
            beat_service(place),
            streams_service(place, self._product),
            flower_service(place, self._flower_port),
        ]
        for service in self.services:
            self._logs[service.name] = LogLines(service.process.log)
            self._backing.run(service.process)

    def restart(self) -> None:
        """Start the processes again that run the product's code."""
        for service in self.services[:-1]:
            self._backing.run_again(service.process)
            self._logs[service.name].begin()
        self._ended.clear()

    def new_lines(self) -> Iterator[tuple[str, str]]:
        """What processes have logged since the last call, by the name of the process."""
        for name, log in self._logs.items():
            for line in log.new():
                yield name, line

    def newly_ended(self) -> dict[str, list[str]]:
        """Processes that have ended by themselves since the last call, and their last words.

        Raises:
            UnavailableError: a server ended; the text ends with its log.
        """
        for server in self._backing.servers:
            if not server.process.is_running:
                raise UnavailableError(f"{server.name} ended:\n{server.process.tail()}")
        ended = {s.name for s in self.services if not s.process.is_running} - self._ended
        self._ended |= ended
        if "ingest" in ended:  # both fail at the same mistake in the product
            ended.discard("streams")
        return {name: self._logs[name].held_back() for name in sorted(ended)}

    def stop(self) -> None:
        """Stop everything, and remove the directory."""
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
