"""How long an HTTP server asks to be left alone: its ``Retry-After`` header."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime

LONGEST_ASKED_S = 3600.0
"""Longest wait that a server may ask for."""


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a ``Retry-After`` header (seconds or an HTTP date); None if unreadable."""
    if value is None:
        return None
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None


def asked_s(retry_after_s: float | None) -> float:
    """Seconds that a server is left alone for what it asked: ``LONGEST_ASKED_S`` at most."""
    if type(retry_after_s) not in (int, float) or retry_after_s is None:
        return 0.0  # code of a product's may ask for anything
    if retry_after_s != retry_after_s:  # NaN
        return 0.0
    return float(max(0.0, min(retry_after_s, LONGEST_ASKED_S)))
