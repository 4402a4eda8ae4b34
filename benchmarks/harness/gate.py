"""The gate: a file whose appearance lets the systems loose on the prefilled stream."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from sinfer.embedded.services import Place

VARIABLE = "BENCH_GATE"
"""Environment variable that holds its path."""

_LOOK_S = 0.005


def gate() -> Path:
    """The gate of this process."""
    return Path(os.environ[VARIABLE])


def open_gate(place: Place) -> None:
    """Let the processes of a place loose."""
    Path(place.environment[VARIABLE]).touch()


async def opened() -> None:
    """Return once the gate is open."""
    await asyncio.to_thread(_wait, gate())


def _wait(path: Path) -> None:
    while not path.exists():
        time.sleep(_LOOK_S)
