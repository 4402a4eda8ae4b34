"""Shifts the wall clock of a process by ``CHAOS_CLOCK_SKEW_S`` seconds; put on PYTHONPATH."""

import os
import time

_SKEW_NS = round(float(os.environ.get("CHAOS_CLOCK_SKEW_S", "0")) * 1e9)
_real_time_ns = time.time_ns


def _time_ns() -> int:
    return _real_time_ns() + _SKEW_NS


def _time() -> float:
    return _time_ns() / 1e9


if _SKEW_NS:
    time.time = _time
    time.time_ns = _time_ns
