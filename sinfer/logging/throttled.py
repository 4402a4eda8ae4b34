"""Telling of a problem that lasts: not each time it is met, but not once for ever either."""

from __future__ import annotations

import time

AGAIN_S = 60.0


class Complaints:
    """Tells a problem when it begins, when it changes, and every minute that it lasts."""

    def __init__(self) -> None:
        self._text = ""
        self._told_s = float("-inf")

    def is_due(self, text: str) -> bool:
        """Whether this problem is to be told now; then it counts as told."""
        now_s = time.monotonic()
        if text == self._text and now_s - self._told_s < AGAIN_S:
            return False
        self._text, self._told_s = text, now_s
        return True

    def clear(self) -> bool:
        """The problem is over; whether there was one."""
        had_one = bool(self._text)
        self._text, self._told_s = "", float("-inf")
        return had_one
