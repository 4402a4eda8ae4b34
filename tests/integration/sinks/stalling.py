"""Servers that stand still, as in a long pause of the machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from sinfer.embedded.servers import EmbeddedServer


@contextmanager
def stalled(server: EmbeddedServer) -> Iterator[None]:
    """All threads of the server stand still inside the block."""
    server.process.signal(signal.SIGSTOP)
    os.waitid(os.P_PID, server.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        server.process.signal(signal.SIGCONT)
