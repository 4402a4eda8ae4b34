"""Event times as products give them, checked: clocks of devices are often wrong."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

from sinfer.config.units import to_ms
from sinfer.errors import InvalidItemError

_MOST_MS = 253_402_300_800_000
"""The end of the year 9999, milliseconds since the epoch; as far back is the limit before it."""

_NUMBERS = (float, int)


def checked_event_time_ms(seconds: object, now_ms: int, max_future: timedelta) -> int:
    """Whole milliseconds since the epoch, those that have passed: 9.9999 s is 9999 ms.

    Fractions below a microsecond are noise of binary floating point and are rounded first, so that
    1.001 s is 1001 ms although the nearest float is a little less.

    Args:
        seconds: what ``event_time`` returned: seconds since the epoch as any real number, those of
            numpy and ``Decimal`` included, or a ``datetime`` that says which time zone is meant.
        now_ms: the clock of the ingest.
        max_future: how far ahead of it an item may be.

    Raises:
        InvalidItemError: it is no finite number, or out of range; the text says which.
    """
    value: Any = seconds if type(seconds) in _NUMBERS else _plain(seconds)
    if type(value) is float and not math.isfinite(value):
        raise InvalidItemError(f"event time is not finite ({value})")
    if abs(value) * 1000 >= _MOST_MS:
        shown = f" {value}" if abs(value) < 1e18 else ""
        raise InvalidItemError(f"event time{shown} is out of range; is it in seconds?")
    time_ms: int = round(value * 1_000_000) // 1000
    if time_ms > now_ms + to_ms(max_future):
        raise InvalidItemError(
            f"event time is {(time_ms - now_ms) / 1000:.0f}s ahead of the clock,"
            f" more than window.max_future ({max_future.total_seconds():.0f}s)"
        )
    return time_ms


def _plain(seconds: object) -> int | float:
    """An exact ``int`` or ``float`` of what means a number of seconds; others' subclasses of these
    may compare and round in ways of their own.

    Raises:
        InvalidItemError: it means none.
    """
    kind = type(seconds).__name__
    if isinstance(seconds, datetime):
        if seconds.tzinfo is None or seconds.utcoffset() is None:
            raise InvalidItemError(f"event time is a {kind} without a time zone")
        plain: object = seconds.timestamp()
    elif isinstance(seconds, bool) or kind in ("bool", "bool_"):
        raise InvalidItemError(f"event time is {kind}, not a number of seconds")
    elif isinstance(seconds, int):
        plain = int.__int__(seconds)
    elif isinstance(seconds, float):
        plain = float.__float__(seconds)
    elif isinstance(seconds, Real | Decimal):
        try:
            plain = float(seconds)
        except (OverflowError, ValueError):
            raise InvalidItemError(f"event time, a {kind}, is not finite or too large") from None
    else:
        raise InvalidItemError(f"event time is {kind}, not a number of seconds")
    if type(plain) not in _NUMBERS:
        raise InvalidItemError(f"event time is {kind}, not a number of seconds")
    return plain  # type: ignore[return-value]
