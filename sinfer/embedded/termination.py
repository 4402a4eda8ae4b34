"""SIGTERM and SIGHUP end a program as Ctrl-C does, so that everything is cleaned up on one path."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Within, these signals raise KeyboardInterrupt; asyncio cancels its main task as for Ctrl-C.

    Raises:
        SystemExit: with 128 and the signal's number, once SIGTERM or SIGHUP has unwound the stack.
        KeyboardInterrupt: SIGINT has.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGINT)

    # Shells start background programs with SIGINT ignored; here it has to work nevertheless.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if received:
            sys.exit(128 + received[0])
        raise
