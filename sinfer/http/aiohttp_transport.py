"""httpx over aiohttp: the same requests, answers and errors for a tenth of the processor time.

httpx stays what clients, sinks and products work with; what goes over the wire is aiohttp's, whose
parser is written in C. ``python -m benchmarks.scenarios.calls`` compares the two. It is for servers
that are reached without a proxy; those go through httpx' own transport.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

_LONGEST_HEADER = 64 * 1024
"""As long as httpx takes them."""

_OWN_HEADERS = (hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE, hdrs.USER_AGENT)
"""What aiohttp would add by itself; requests of httpx have what they need."""

_CONNECTING = "connection.connect_tcp.started"
"""The event of httpx that tells that a request has a connection of its own made."""

_NO_TIMEOUT: dict[str, float | None] = {}


class MalformedAnswerError(httpx.RemoteProtocolError):
    """What came is no HTTP, from its beginning or behind a status, which is not told then."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Connections to servers, kept for further requests. Use it on one event loop.

    How many there may be at once is for the caller to bound.

    Args:
        verify: whom the certificates must come from.
        limits: ``keepalive_expiry`` counts, and whether connections are kept at all.

    Attributes:
        session: of aiohttp; None until there was something to send.
    """

    def __init__(self, verify: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._verify = verify
        self._is_kept = limits.max_keepalive_connections != 0
        self._keepalive_s = limits.keepalive_expiry
        self.session: aiohttp.ClientSession | None = None
        self._timeouts: dict[tuple[Any, ...], aiohttp.ClientTimeout] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; the body of the answer is yet to be read.

        Raises:
            httpx.TransportError: as httpx' own transport does.
        """
        session = self.session or self.open()
        try:
            answer = await session.request(
                request.method,
                target_of(request.url),
                data=request.content or None,
                headers=headers_of(request),
                allow_redirects=False,
                timeout=self._timeout(request),
                server_hostname=request.extensions.get("sni_hostname"),
                trace_request_ctx=request,
            )
        except FOREIGN as error:
            raise as_of_httpx(error, request) from cause_of(error)
        return streamed(answer, request)

    def open(self) -> aiohttp.ClientSession:
        """Make the session, on the event loop that it is for."""
        kept: dict[str, Any] = {"force_close": True}
        if self._is_kept:
            kept = {"keepalive_timeout": self._keepalive_s}
        connector = aiohttp.TCPConnector(
            ssl=self._verify,
            limit=0,
            use_dns_cache=False,
            resolver=aiohttp.ThreadedResolver(),
            **kept,
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_create_start.append(_tell_of_connecting)
        self.session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            skip_auto_headers=_OWN_HEADERS,
            trace_configs=[tracing],
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        return self.session

    def _timeout(self, request: httpx.Request) -> aiohttp.ClientTimeout:
        asked = request.extensions.get("timeout", _NO_TIMEOUT)
        key = (asked.get("pool"), asked.get("connect"), asked.get("read"))
        found = self._timeouts.get(key)
        if found is None:
            pool, connect, read = key
            found = aiohttp.ClientTimeout(connect=pool, sock_connect=connect, sock_read=read)
            self._timeouts = {key: found}
        return found

    async def aclose(self) -> None:
        """Close all connections."""
        if self.session is not None:
            session, self.session = self.session, None
            await session.close()


async def _tell_of_connecting(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceConnectionCreateStartParams,
) -> None:
    """As httpx' own transport tells whoever wants to know; see its extension ``trace``."""
    request: httpx.Request = context.trace_request_ctx
    trace: Callable[[str, Any], Awaitable[None]] | None = request.extensions.get("trace")
    if trace is not None:
        await trace(_CONNECTING, {})


def target_of(url: httpx.URL) -> URL:
    """The URL as aiohttp takes it: nothing of it is encoded once more, and whom to be is said by
    headers alone, as httpx says it."""
    plain = url.copy_with(username=None, password=None, fragment=None)
    return URL(str(plain), encoded=True)


def headers_of(request: httpx.Request) -> CIMultiDict[str]:
    """The headers of a request, as aiohttp takes them."""
    return CIMultiDict((n.decode("ascii"), v.decode("latin-1")) for n, v in request.headers.raw)


def streamed(answer: aiohttp.ClientResponse, request: httpx.Request) -> httpx.Response:
    """An answer of aiohttp as one of httpx, whose body is yet to be read."""
    return httpx.Response(
        answer.status,
        headers=answer.raw_headers,
        stream=_Body(answer, request),
        request=request,
        extensions={
            "http_version": b"HTTP/1.1",
            "reason_phrase": (answer.reason or "").encode("latin-1", "replace"),
        },
    )


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes in."""

    def __init__(self, answer: aiohttp.ClientResponse, request: httpx.Request) -> None:
        self._answer = answer
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.content.iter_any():
                yield piece
        except FOREIGN as error:
            self._answer.close()
            raise as_of_httpx(error, self._request) from cause_of(error)
        except BaseException:
            self._answer.close()
            raise

    async def aclose(self) -> None:
        """Leave the connection to others, where all was read; close it else."""
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


FOREIGN = (aiohttp.ClientError, OSError, ValueError)
"""All that aiohttp raises when a call does not come to an answer."""


def cause_of(error: Exception) -> BaseException:
    """What Python says of TLS and names, which is looked for behind an error; else the error."""
    return getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error


def as_of_httpx(error: Exception, request: httpx.Request) -> httpx.RequestError:
    """What httpx would raise instead."""
    kind, text = _as_of_httpx(error)
    return kind(text, request=request)


def _as_of_httpx(error: Exception) -> tuple[type[httpx.RequestError], str]:
    """Which error of httpx says the same, and its text."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx.ConnectTimeout, ""
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout, ""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        return httpx.ConnectError, _why_unconnected(error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError, "Server disconnected without sending a response."
    if isinstance(error, aiohttp.ClientPayloadError):
        return (
            httpx.RemoteProtocolError,
            "peer closed connection without sending complete message body",
        )
    if isinstance(error, aiohttp.ClientOSError | OSError):
        return httpx.ReadError, ""
    if isinstance(error, aiohttp.InvalidURL):
        return httpx.UnsupportedProtocol, "no URL that can be asked"
    if isinstance(error, aiohttp.ClientError):
        return MalformedAnswerError, str(getattr(error, "message", "")) or str(error)
    return httpx.LocalProtocolError, str(error)


def _why_unconnected(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ConnectionRefusedError):
        return "All connection attempts failed"
    return str(cause)
