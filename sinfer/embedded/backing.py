"""NATS, Redis and the model server together, in one directory that goes with them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sinfer.embedded.child_process import ChildProcess
from sinfer.embedded.guardian import Guardian
from sinfer.embedded.model_process import EXAMPLE_MODULE, ModelServer
from sinfer.embedded.servers import EmbeddedServer, NatsServer, RedisServer

_KEYS = [
    f"SINFER_NATS_{name}"
    for name in (
        "USER", "PASSWORD", "TOKEN", "CREDS", "NKEY_SEED", "TLS_CA", "TLS_CERT", "TLS_KEY",
        "TLS_HOSTNAME", "DOMAIN", "API_PREFIX",
    )
]  # fmt: skip


def _silent(text: str) -> None:
    """Say nothing."""


class BackingServers:
    """What sinfer needs around it. No process and no file outlives it, however it ends.

    Args:
        tell: is called with a few words before each step.
        model_module: the module that is run as the model server.
        nats_port, redis_port, model_port: where they listen; free ports by default.

    Attributes:
        directory: all data and logs.
    """

    def __init__(
        self,
        *,
        tell: Callable[[str], None] = _silent,
        model_module: str = EXAMPLE_MODULE,
        nats_port: int | None = None,
        redis_port: int | None = None,
        model_port: int | None = None,
    ) -> None:
        self._tell = tell
        self.directory = Path(tempfile.mkdtemp(prefix="sinfer-"))
        self._ending = ExitStack()
        self._guardian = Guardian(self.directory)
        self._ending.callback(self._guardian.dismiss)
        try:
            self.nats = NatsServer(self.directory / "nats", nats_port)
            self.redis = RedisServer(self.directory / "redis", redis_port)
            self.model = ModelServer(self.directory / "model", model_port, module=model_module)
        except BaseException:
            self.stop()
            raise

    @property
    def servers(self) -> list[EmbeddedServer]:
        """All of them, in the order in which they start."""
        return [self.nats, self.redis, self.model]

    @property
    def environment(self) -> dict[str, str]:
        """What leads sinfer's processes to them."""
        return {
            "SINFER_NATS_SERVERS": self.nats.url,
            "SINFER_REDIS_URL": self.redis.url,
            "SINFER_BROKER_URL": "",
            # Keys of the user's own servers are no business of these.
            **dict.fromkeys(_KEYS, ""),
            "SINFER_NATS_TLS_HANDSHAKE_FIRST": "false",
            **_no_proxy(),
            **{n: "" for n in os.environ if n.startswith("SINFER_") and n.endswith("_FILE")},
        }

    def start(self) -> None:
        """Start all and wait until they accept connections.

        Raises:
            UnavailableError: one of them did not start; the text ends with its log.
        """
        for server in self.servers:
            self._tell(f"starting {server.name}")
            self._ending.callback(self._end, server.process)
            server.start()
            self._guardian.watch(server.process.pid)

    def run(self, process: ChildProcess) -> None:
        """Start a further process, which ends before those that were started earlier."""
        self._ending.callback(self._end, process)
        process.start()
        self._guardian.watch(process.pid)

    def run_again(self, process: ChildProcess) -> None:
        """End a process that ``run`` started, and start it once more with an empty log."""
        self._end(process)
        process.log.write_bytes(b"")
        process.start()
        self._guardian.watch(process.pid)

    def stop(self) -> None:
        """End everything in the reverse order of its start, and remove the directory."""
        self._ending.close()

    def _end(self, process: ChildProcess) -> None:
        process.stop()
        if process.returncode is not None:
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


def _no_proxy() -> dict[str, str]:
    """The environment's proxy, if there is one, does not lead to this machine."""
    others = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    exempt = ",".join(filter(None, (others, "127.0.0.1")))
    return {"no_proxy": exempt, "NO_PROXY": exempt}
