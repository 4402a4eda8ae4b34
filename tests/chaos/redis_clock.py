"""A Redis server whose wall clock is as wrong as the driver wants it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sinfer.embedded.servers import RedisServer
from tests.chaos.clock import Clock

_SOURCE = Path(__file__).with_name("redis_clock.c")


class ClockedRedis(RedisServer):
    """As ``RedisServer``; its clock stays right where there is no C compiler.

    Attributes:
        clock: its clock; None without a compiler.
    """

    def __init__(self, directory: Path, config: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.clock: Clock | None = None
        compiler = shutil.which("cc")
        if compiler is not None:
            self._library = directory / "clock.so"
            command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(self._library), str(_SOURCE)]
            subprocess.run([*command, "-ldl"], check=True)
            self.clock = Clock(directory / "clock", 0.0)
        super().__init__(directory, config=config)

    def _command(self) -> list[str]:
        command = super()._command()
        if self.clock is None:
            return command
        settings = {**self.clock.environment, "LD_PRELOAD": str(self._library)}
        return ["env", *(f"{name}={value}" for name, value in settings.items()), *command]
