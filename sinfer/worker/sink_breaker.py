"""A sink that is unavailable is left alone for a while: not all windows wait for its time-out.

Each process has one of these for each sink of a task. Windows that come meanwhile are written to
the other sinks and wait for this one; when the pause is over a single window tries it. A sink that
says for how long it wants to be left alone is, at once.
"""

from __future__ import annotations

import random
import time

_FAILURES = 3
"""Failures in a row that open it: single deadlocks and time-outs do not."""


class SinkBreaker:
    """Says whether a sink may be written to now.

    Args:
        base_ms: the first pause; it doubles with each trial that fails.
        most_ms: the longest pause.

    Attributes:
        error: what the sink said last when it was unavailable.
    """

    def __init__(self, base_ms: int, most_ms: int) -> None:
        self._base_ms = base_ms
        self._most_ms = most_ms
        self._failures = 0
        self._until_s = 0.0
        self._on_trial = False
        self.error = ""

    @property
    def wait_ms(self) -> int:
        """How long nobody may write; 0 when it is closed or a trial is due."""
        return max(0, round((self._until_s - time.monotonic()) * 1000))

    def may_write(self) -> bool:
        """Whether to write now. Say afterwards how it went, with one of the methods below."""
        if self._failures < _FAILURES:
            return True
        if self._on_trial or time.monotonic() < self._until_s:
            return False
        self._on_trial = True
        return True

    def answered(self) -> None:
        """The sink took the results, or refused them."""
        self._failures = 0
        self._until_s = 0.0
        self._on_trial = False

    def failed(self, error: str, asked_s: float = 0.0) -> None:
        """The sink was unavailable.

        Args:
            error: what it said.
            asked_s: for how long it asked to be left alone, seconds.
        """
        self.error = error
        self._on_trial = False
        now_s = time.monotonic()
        asked_until_s = now_s + asked_s if asked_s else 0.0
        if now_s < self._until_s:  # a write from before the pause
            self._until_s = max(self._until_s, asked_until_s)
            return
        self._failures += 1
        if asked_s:
            self._failures = max(self._failures, _FAILURES)
        if self._failures >= _FAILURES:
            doublings = min(30, self._failures - _FAILURES)
            pause_ms = min(self._most_ms, self._base_ms * 2**doublings)
            pause_s = random.uniform(0.5, 1.0) * pause_ms / 1000
            self._until_s = max(now_s + pause_s, asked_until_s)

    def broken_off(self) -> None:
        """The write was cancelled: nothing is known."""
        self._on_trial = False
