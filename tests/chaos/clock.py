"""The wall clock of one process under test: as wrong as the driver wants it, from one call on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

SKEWED_CLOCK = Path(__file__).parent / "skewed_clock"
"""On the PYTHONPATH of a process it makes its clock follow a ``Clock``."""


class Clock:
    """Kept in a file that the process maps into its memory.

    Args:
        path: the file.
        skew_s: how wrong the clock is at first.
    """

    def __init__(self, path: Path, skew_s: float) -> None:
        self._path = path
        self._skew_s = 0.0
        path.write_bytes(bytes(8))
        self.jump(skew_s)

    @property
    def environment(self) -> dict[str, str]:
        """For the process, beside the PYTHONPATH."""
        return {"CHAOS_CLOCK": str(self._path)}

    def jump(self, by_s: float) -> float:
        """Move the clock, forwards or back, and leave it there.

        Returns:
            How wrong it is now, in seconds.
        """
        self._skew_s += by_s
        # In place: a file that is written again is shorter for a moment.
        file = os.open(self._path, os.O_WRONLY)
        try:
            os.pwrite(file, round(self._skew_s * 1e9).to_bytes(8, sys.byteorder, signed=True), 0)
        finally:
            os.close(file)
        return self._skew_s
