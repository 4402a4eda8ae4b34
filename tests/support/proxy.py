"""A proxy in the test's own event loop: forwards, tunnels, speaks SOCKS 5, refuses and hangs."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxyServer:
    """Keeps what it was asked for.

    Attributes:
        port: where it listens.
        asked: the servers that it was asked for, as ``host:port``, in order.
        heads: the requests, their first lines and headers.
        login: ``user:password`` that it demands; empty for none.
        status: answers everything with this one; 0 to do its work.
        is_silent: takes connections and says nothing.
        garbage: answers everything with this; empty to do its work.
        connections: those that are open.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.heads: list[str] = []
        self.login = ""
        self.status = 0
        self.is_silent = False
        self.garbage = b""
        self.connections: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ProxyServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in self.connections:
                writer.transport.abort()

    def url(self, scheme: str = "http", login: str = "") -> str:
        """Where it is asked, with credentials where they are given."""
        return f"{scheme}://{login}{'@' if login else ''}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(1)
            if self.is_silent:
                await reader.read(-1)
            elif self.garbage:
                writer.write(self.garbage)
            elif first == b"\5":
                await self._socks(reader, writer)
            else:
                await self._http(first, reader, writer)
        self.connections.discard(writer)
        writer.close()

    async def _http(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split(" ", 2)
        self.heads.append(head)
        status = self.status
        expected = f"Proxy-Authorization: Basic {b64encode(self.login.encode()).decode()}"
        if self.login and expected.lower() not in head.lower():
            status = 407
        if status:
            body = f"the proxy does not want {head}".encode("latin-1")
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                % (status, len(body), body)
            )
            await writer.drain()
            return
        if method == "CONNECT":
            behind = await self._open(target)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            parts = urlsplit(target)
            behind = await self._open(f"{parts.hostname}:{parts.port or 80}")
            path = parts._replace(scheme="", netloc="").geturl() or "/"
            lines = [line for line in head.split("\r\n") if not line.lower().startswith("proxy-")]
            lines[0] = lines[0].replace(target, path)
            lines.insert(1, "Connection: close")
            behind[1].write("\r\n".join(lines).encode("latin-1"))
        await _join((reader, writer), behind)

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if self.login:
            if 2 not in methods:
                writer.write(b"\5\xff")
                return
            writer.write(b"\5\2")
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            is_known = f"{user.decode()}:{password.decode()}" == self.login
            writer.write(b"\1\0" if is_known else b"\1\1")
            if not is_known:
                return
        else:
            writer.write(b"\5\0")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(map(str, await reader.readexactly(4)))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2))
        if self.status:
            writer.write(b"\5\5\0\1\0\0\0\0\0\0")
            return
        behind = await self._open(f"{host}:{port}")
        writer.write(b"\5\0\0\1\0\0\0\0\0\0")
        await _join((reader, writer), behind)

    async def _open(self, place: str) -> Streams:
        self.asked.append(place)
        host, _, port = place.rpartition(":")
        return await asyncio.open_connection(host, int(port))


async def _join(one: Streams, other: Streams) -> None:
    await asyncio.gather(_pump(one[0], other[1]), _pump(other[0], one[1]))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
