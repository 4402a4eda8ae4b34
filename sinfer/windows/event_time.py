"""Event times as products give them, checked: clocks of devices are often wrong."""

from __future__ import annotations

import math
from datetime import timedelta

from sinfer.errors import InvalidItemError
from sinfer.units import to_ms

_MOST_MS = 253_402_300_800_000
"""The end of the year 9999, milliseconds since the epoch; as far back is the limit before it."""


def checked_event_time_ms(seconds: object, now_ms: int, max_future: timedelta) -> int:
    """Whole milliseconds since the epoch, those that have passed: 9.9999 s is 9999 ms.

    Fractions below a microsecond are noise of binary floating point and are rounded first, so that
    1.001 s is 1001 ms although the nearest float is a little less.

    Args:
        seconds: what ``event_time`` returned, seconds since the epoch.
        now_ms: the clock of the ingest.
        max_future: how far ahead of it an item may be.

    Raises:
        InvalidItemError: it is no finite number, or out of range; the text says which.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidItemError(f"event time is {type(seconds).__name__}, not a number of seconds")
    if isinstance(seconds, float) and not math.isfinite(seconds):
        raise InvalidItemError(f"event time is not finite ({seconds})")
    if abs(seconds) * 1000 >= _MOST_MS:
        shown = f" {seconds}" if abs(seconds) < 1e18 else ""
        raise InvalidItemError(f"event time{shown} is out of range; is it in seconds?")
    time_ms = round(seconds * 1_000_000) // 1000
    if time_ms > now_ms + to_ms(max_future):
        raise InvalidItemError(
            f"event time is {(time_ms - now_ms) / 1000:.0f}s ahead of the clock,"
            f" more than window.max_future ({max_future.total_seconds():.0f}s)"
        )
    return time_ms
