"""The least of an HTTP/1.1 server: one asyncio protocol over the httptools parser.

It exists because the reference model server shares its cores with what it serves, and must be able
to break off an answer half-way. It does not do pipelining, upgrades or TLS by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from sinfer.extras import extras_named

with extras_named():
    import httptools

JSON = "application/json"

_STATUS_LINES = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_WITHOUT_BODY = frozenset({204, 304})


class Exchange:
    """One request and the one answer to it, which may be given at once or later.

    Attributes:
        method: in capitals, such as ``"POST"``.
        path: without the query.
        headers: names in lower case; of a repeated name the last value.
        body: the whole body.
        on_end: called once, when the answer was given or the client is gone.
    """

    __slots__ = ("_connection", "body", "headers", "method", "on_end", "path")

    def __init__(
        self,
        connection: HttpProtocol,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        self._connection = connection
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.on_end: Callable[[], None] | None = None

    def reply(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = JSON,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer; nothing happens if the client is gone."""
        self._connection.send(self, status, body, content_type, headers)

    def reply_and_close(self, status: int, body: bytes = b"", *, content_type: str = JSON) -> None:
        """Answer, and close the connection although the answer does not say so."""
        self._connection.send(self, status, body, content_type, ())
        self._connection.close()

    def reply_half(self, status: int, body: bytes, *, content_type: str = JSON) -> None:
        """Announce the whole body, send the first half of it, and close the connection."""
        self._connection.send(self, status, body, content_type, (), len(body) // 2)

    def end(self) -> None:
        """The answer was given or cannot be given any more."""
        if (callback := self.on_end) is not None:
            self.on_end = None
            callback()


class HttpProtocol(asyncio.Protocol):
    """One connection.

    Args:
        serve: takes each exchange; it must not block.
        connections: where the connection registers itself, so that a server can close it.
    """

    def __init__(
        self, serve: Callable[[Exchange], None], connections: set[HttpProtocol] | None = None
    ) -> None:
        self._serve = serve
        self._connections = connections if connections is not None else set()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._complete = 0

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._transport = None
        if self._exchange is not None:
            self._exchange.end()
            self._exchange = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
            return
        if not self._complete:
            return
        if self._complete > 1 or self._exchange is not None:  # pipelining
            self.abort()
            return
        self._complete = 0
        path = urlsplit(self._url).path.decode("latin-1")
        method = self._parser.get_method().decode("ascii")
        exchange = Exchange(self, method, path, self._headers, b"".join(self._body))
        self._exchange = exchange
        self._serve(exchange)

    # httptools

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete += 1

    # answers

    def send(
        self,
        exchange: Exchange,
        status: int,
        body: bytes,
        content_type: str,
        headers: tuple[tuple[str, str], ...],
        cut: int | None = None,
    ) -> None:
        """Write the answer of an exchange, or the first ``cut`` bytes of its body and close."""
        if exchange is not self._exchange or self._transport is None:
            return
        self._exchange = None
        line = _STATUS_LINES.get(status) or f"HTTP/1.1 {status} Status\r\n".encode()
        if status in _WITHOUT_BODY:
            head, body = "", b""
        else:
            head = f"content-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        for name, value in headers:
            head += f"{name}: {value}\r\n"
        keep_alive = cut is None and self._parser.should_keep_alive()
        head += "\r\n" if keep_alive else "connection: close\r\n\r\n"
        self._transport.write(b"".join((line, head.encode("latin-1"), body[:cut])))
        if not keep_alive:
            self._transport.close()
        exchange.end()

    def close(self) -> None:
        """Close the connection once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()
