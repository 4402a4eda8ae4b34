"""A TCP proxy in a thread of its own, whose connections can be cut, reset, delayed and stalled."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import Literal

Weather = Literal["clear", "slow", "stalled", "dropping", "refusing"]
"""How the proxy treats bytes.

- clear: passes them on at once.
- slow: passes them on after a while.
- stalled: takes connections and bytes, passes nothing on; as when packets are dropped.
- dropping: takes connections and bytes and throws them away, so whatever was asked may have been
  done and nobody hears of it; what is connected by then is reset when the weather changes.
- refusing: resets every connection.
"""

_CHUNK = 256 * 1024
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """Listens on a free loopback port and passes everything on to another.

    Args:
        name: for reports.
        port: where it connects to, on 127.0.0.1.

    Attributes:
        port: where it listens.
    """

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self._target = port
        self._weather: Weather = "clear"
        self._delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.StreamWriter] = set()
        self._works: set[asyncio.Task[None]] = set()
        self._clearing = asyncio.Event()
        self._clearing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        return int(self._server.sockets[0].getsockname()[1])

    # --- weather ---

    def change(self, weather: Weather, *, delay_s: float = 0.0) -> None:
        """Treat bytes like this from now on.

        ``refusing``, and the end of ``dropping``, also reset what is connected.
        """
        asyncio.run_coroutine_threadsafe(self._change(weather, delay_s), self._loop).result(10)

    async def _change(self, weather: Weather, delay_s: float) -> None:
        # A stream that lacks some bytes makes no sense any more.
        has_holes = self._weather == "dropping"
        self._weather = weather
        self._delay_s = delay_s
        if weather == "stalled":
            self._clearing.clear()
        else:
            self._clearing.set()
        if weather == "refusing" or has_holes:
            self._reset_all()

    def reset(self) -> None:
        """Reset every connection once; new ones are taken."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for writer in list(self._connections):
            _reset(writer)

    def lead_to(self, port: int) -> None:
        """Connect to another port from now on, and reset what is connected."""
        self._target = port
        self.reset()

    # --- bytes ---

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        work = asyncio.ensure_future(self._serve(reader, writer))
        self._works.add(work)
        work.add_done_callback(self._works.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather == "refusing":
            _reset(writer)
            return
        self._connections.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(
                "127.0.0.1", self._target, limit=_CHUNK
            )
        except OSError:
            self._connections.discard(writer)
            _reset(writer)
            return
        self._connections.add(far_writer)
        try:
            # When one direction ends, so does the other: no connection is left half open.
            ways = {
                asyncio.ensure_future(self._pass_on(reader, far_writer)),
                asyncio.ensure_future(self._pass_on(far_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        finally:
            for end in (writer, far_writer):
                self._connections.discard(end)
                end.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # a reset ends the connection, which is what it is for
            while data := await reader.read(_CHUNK):
                if self._weather == "slow":
                    await asyncio.sleep(self._delay_s)
                await self._clearing.wait()
                if self._weather == "dropping":
                    continue
                writer.write(data)
                await writer.drain()

    # --- the end ---

    def close(self) -> None:
        """Reset everything and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        self._reset_all()
        works = list(self._works)
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST in place of a FIN."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
