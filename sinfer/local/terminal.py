"""The terminal of `sinfer run`: debuggers have it, even while messages come through stdin."""

from __future__ import annotations

import os
from collections.abc import Iterator

_CHUNK = 65536


def take_stdin() -> int:
    """Take stdin for messages; whoever reads it from now on reads the terminal, if there is one.

    Returns:
        The file descriptor to read messages from.
    """
    taken = os.dup(0)
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        terminal = os.open(os.devnull, os.O_RDONLY)
    os.dup2(terminal, 0)
    os.close(terminal)
    return taken


def lines_from(descriptor: int) -> Iterator[bytes]:
    """The lines that come through a file descriptor.

    Python's own files hold a lock while they wait for a line, on which the process would end badly.
    """
    rest = b""
    while chunk := os.read(descriptor, _CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
