"""RabbitMQ from programs that are on the machine, in a directory of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Self

from sinfer.embedded.child_process import ChildProcess, free_port, is_listening
from sinfer.embedded.servers import EmbeddedServer
from tests.support.required import unavailable
from tests.support.until import until_true

_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""What the one on the path runs once it has become the user ``rabbitmq``."""


_START_TIMEOUT_S = 90.0


class RabbitMqServer(EmbeddedServer):
    """One node on loopback, with a name mapper of its own."""

    name = "rabbitmq-server"

    def __init__(self, directory: Path) -> None:
        if not _PROGRAM.exists() or shutil.which("erl") is None:
            unavailable("RabbitMQ")
        super().__init__(directory)
        (directory / "rabbitmq.conf").write_text("")
        environment = {
            **os.environ,
            "HOME": str(directory),  # for the cookie
            "RABBITMQ_NODENAME": f"sinfer{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(free_port()),
        }
        self.process = ChildProcess(
            self.name, self._command(), log=directory / "server.log", env=environment
        )

    def start(self) -> Self:
        """Start and wait until it accepts connections: it takes its time."""
        self.process.start()

        def listens() -> bool:
            assert self.process.is_running, self._told()
            return is_listening(self.port)

        try:
            until_true(listens, self._told, _START_TIMEOUT_S)
        except BaseException:
            self.process.kill()
            raise
        return self

    def _told(self) -> str:
        return f"{self.name} did not start:\n{self.process.tail()}"

    def _command(self) -> list[str]:
        return [str(_PROGRAM)]

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"
