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
    """Begins with the machine's clock, or with a server's, and goes on evenly from there: when
    someone sets the machine's clock meanwhile, it does not notice."""

    def __init__(self) -> None:
        self._offset_ms = 0
        self.follow(time.time_ns() // 1_000_000)

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self._offset_ms

    def follow(self, server_ms: int) -> None:
        """Take over the time of a server that was read just now (milliseconds)."""
        self._offset_ms = server_ms - time.monotonic_ns() // 1_000_000


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
