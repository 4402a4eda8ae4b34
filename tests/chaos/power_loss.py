"""What a power cut does to a Redis that fsyncs its append-only file once a second."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

from sinfer.embedded.servers import RedisServer

_LOOK_S = 0.05


class PowerLoss:
    """Cuts off what Redis wrote last, as if the disk had never got it.

    kill -9 alone loses nothing: the kernel has what was written. So this notes how long the file
    was, and afterwards cuts it to what it was so long ago.

    Args:
        server: the server.
        lost_s: what was written in so many last seconds is lost.
    """

    def __init__(self, server: RedisServer, lost_s: float) -> None:
        self._server = server
        self._sizes: deque[int] = deque(maxlen=round(lost_s / _LOOK_S))

    async def watch(self) -> None:
        """Note the length of the file forever."""
        while True:
            self._sizes.append(self._file().stat().st_size)
            await asyncio.sleep(_LOOK_S)

    def strike(self) -> int:
        """Kill Redis, cut its file and start it again.

        Returns:
            How many bytes were lost.
        """
        self._server.process.kill()
        path = self._file()
        lost = path.stat().st_size - self._sizes[0]
        with path.open("rb+") as file:
            file.truncate(self._sizes[0])
        self._sizes.clear()  # what the file was before says nothing of what is written from now on
        self._sizes.append(path.stat().st_size)
        self._server.start()
        return lost

    def _file(self) -> Path:
        [path] = (self._server.directory / "appendonlydir").glob("*.incr.aof")
        return path
