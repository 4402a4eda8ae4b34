"""The reference model server as a child process, with its faults and counters at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from sinfer.embedded.servers import EmbeddedServer
from sinfer.extras import extras_named

EXAMPLE_MODULE = "sinfer.embedded.model_server"


class ModelServer(EmbeddedServer):
    """The model ``example`` on a free loopback port, or another one.

    Args:
        delay_ms: how long each inference takes, milliseconds.
        module: run as the server; what follows is for the model ``example`` alone.
    """

    name = "model-server"

    def __init__(
        self,
        directory: Path | None = None,
        port: int | None = None,
        delay_ms: float = 0,
        *,
        module: str = EXAMPLE_MODULE,
    ) -> None:
        with extras_named():
            import httptools  # noqa: F401
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
        self._delay_ms = delay_ms
        self._module = module
        super().__init__(directory, port)

    def _command(self) -> list[str]:
        options = ["--port", str(self.port)]
        if self._delay_ms:
            options += ["--delay-ms", str(self._delay_ms)]
        return [sys.executable, "-m", self._module, *options]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def order(self, *faults: dict[str, Any]) -> None:
        """Replace the faults of the next requests; none heals it (see ``model_faults.Fault``)."""
        httpx.post(f"{self.url}/faults", json=faults, trust_env=False).raise_for_status()

    def stats(self) -> dict[str, int]:
        """Counters of inference requests (see ``model_server.Stats``)."""
        response = httpx.get(f"{self.url}/stats", trust_env=False).raise_for_status()
        counters: dict[str, int] = response.json()
        return counters

    def reset(self) -> None:
        """Heal it and set its counters to zero."""
        self.order()
        httpx.delete(f"{self.url}/stats", trust_env=False).raise_for_status()
