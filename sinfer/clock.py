"""Wall clocks, so that pure logic takes its time as an argument and tests advance it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock, corrected by an offset learned from a server's."""

    def __init__(self) -> None:
        self._offset_ms = 0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._offset_ms

    def follow(self, server_ms: int) -> None:
        """Take over the time of a server that was read just now (milliseconds)."""
        self._offset_ms = server_ms - time.time_ns() // 1_000_000


class ManualClock:
    """A clock that only moves when told to."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, ms: int) -> None:
        self._now_ms += ms

    def advance_to(self, now_ms: int) -> None:
        """Move on to a time; a clock does not go back."""
        self._now_ms = max(self._now_ms, now_ms)
