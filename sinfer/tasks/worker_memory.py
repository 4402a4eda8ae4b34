"""What the processes of one worker tell each other, in memory that they share."""

from __future__ import annotations

import mmap
import struct
import time

from billiard.process import current_process

_PROCESSES = 4096
"""More than any worker has; those beyond count as having nothing under way."""

_NUMBER = struct.Struct("=i")
_TIME = struct.Struct("=d")
_TIME_AT = _NUMBER.size * (1 + _PROCESSES)

_EVENTS_AT = _TIME_AT + _TIME.size

_memory = mmap.mmap(-1, _EVENTS_AT + _NUMBER.size)
"""One number that says whether the worker is told to end, then one for each process by its index,
then when the worker was last seen to listen to its broker, by the monotonic clock, then whether
somebody wants events of windows.

Made when this is imported, so before the worker forks, and never taken down."""


def tell_to_end(**_: object) -> None:
    """The worker is told to end: its processes learn of it, also those that are being replaced."""
    _NUMBER.pack_into(_memory, 0, 1)


def is_told_to_end() -> bool:
    """Whether the worker is told to end."""
    return bool(_NUMBER.unpack_from(_memory, 0)[0])


def note_listening() -> None:
    """The worker listens to its broker."""
    _TIME.pack_into(_memory, _TIME_AT, time.monotonic())


def silent_s() -> float | None:
    """How long ago it was last seen to; None when it never was."""
    seen_s = float(_TIME.unpack_from(_memory, _TIME_AT)[0])
    return max(0.0, time.monotonic() - seen_s) if seen_s else None


def want_events(wanted: bool) -> None:
    """Whether somebody wants events of windows, as Flower does."""
    _NUMBER.pack_into(_memory, _EVENTS_AT, int(wanted))


def are_events_wanted() -> bool:
    """Whether somebody wants events of windows."""
    return bool(_NUMBER.unpack_from(_memory, _EVENTS_AT)[0])


def note_load(windows: int) -> None:
    """This process has so many windows under way."""
    index = getattr(current_process(), "index", None)
    if index is not None and index < _PROCESSES:
        _NUMBER.pack_into(_memory, _place(index), windows)


def load_of(index: int) -> int:
    """How many windows a process has under way, as it says."""
    return int(_NUMBER.unpack_from(_memory, _place(index))[0]) if index < _PROCESSES else 0


def _place(index: int) -> int:
    return _NUMBER.size * (1 + index)
