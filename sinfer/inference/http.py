"""What the clients of HTTP protocols share: settings, a connection pool, one deadline per call."""

from __future__ import annotations

import asyncio
import functools
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import aiohttp
import httpx
from pydantic import Field, field_validator
from yarl import URL

from sinfer.config.model import ConfigModel
from sinfer.config.proxy import Proxy
from sinfer.config.secret import Secret
from sinfer.config.units import Bytes, Duration, format_duration
from sinfer.encoding import from_foreign_json, to_json
from sinfer.errors import (
    InferenceError,
    InferenceRejectedError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.http.aiohttp_transport import (
    FOREIGN,
    AiohttpTransport,
    as_of_httpx,
    cause_of,
    streamed,
    target_of,
)
from sinfer.http.read_limit import (
    ACCEPT_ENCODING,
    AnswerEncodingError,
    AnswerTooLargeError,
    read_bounded,
)
from sinfer.http.routes import route_to
from sinfer.inference.base import InferenceClient, InferenceConfig, name_of_model
from sinfer.inference.check import checked_error
from sinfer.inference.http_errors import (
    FOREIGN_ERRORS,
    FURTHER_SECRETS,
    error_of_exception,
    error_of_status,
    invalid_response,
    shown_url,
)
from sinfer.types.check import Checked

_KEEPALIVE_S = 4.0
"""Let idle connections go before usual servers do (5 s), or requests meet them half-closed."""

_CLOSED = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""How it shows that the server has closed the connection before it answered."""

_TARGET = "sinfer_target"
"""Extension of a request: its URL, as aiohttp takes it."""

_ANSWERED = "sinfer_answered"
"""Extension of a request: the server has seen it, and begun to answer."""

_SENDING = ".send_request_headers.started"
"""The event by which a request has its connection."""

_VISIBLE_ASCII = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")


class HttpConfig(InferenceConfig):
    """Settings of every HTTP client."""

    url: str
    """``http://`` or ``https://``. Secrets belong into ``headers``, which are masked."""
    headers: dict[str, Secret] = Field(default_factory=dict)
    """Sent with each request; values may refer to the environment, as in ``Bearer ${TOKEN}``."""
    connect_timeout: Duration = Field(default="2s", validate_default=True)
    """Longest wait for a new connection, within ``timeout``."""
    verify: bool = True
    """Whether the certificate of an ``https://`` server must be valid."""
    ca_file: Path | None = None
    """PEM file of the certificate authorities to trust instead of those that ``SSL_CERT_FILE`` or
    ``SSL_CERT_DIR`` names, or the usual ones."""
    proxy: Proxy | None = None
    """The proxy to ask through: a URL, ``none``, or ``environment`` for what ``HTTPS_PROXY``,
    ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say; by default that of ``SINFER_PROXY``."""
    max_response_bytes: Bytes = Field(default="32MiB", validate_default=True, ge=1)
    """Largest answer that is read, unpacked; a larger one is a failed attempt."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            url = httpx.URL(value)
        except httpx.InvalidURL as error:
            raise ValueError(f"is no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("is no URL of a server: write http://host:port or https://host")
        return value

    @field_validator("headers")
    @classmethod
    def _headers(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                raise ValueError(f"{name!r} is no header name")
            text = secret.get_secret_value()
            if not text.isascii() or not text.isprintable() or text != text.strip():
                raise ValueError(
                    f"the value of {name} must be ASCII, on one line and without outer spaces"
                )
        return value


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What to call; made once per client.

    Attributes:
        call: method and URL for messages, without credentials and query.
        target: the URL, as aiohttp takes it.
    """

    method: str
    url: httpx.URL
    call: str
    target: URL

    @classmethod
    def of(cls, method: str, base: str, path: str = "", through: str = "") -> Self:
        """The endpoint at a path below a base URL, whose query is kept.

        Args:
            path: begins with ``/``; names within it are already quoted.
            through: behind the URL, for messages.
        """
        url = httpx.URL(base).copy_with(username=None, password=None)
        if path:
            raw_path = url.raw_path.partition(b"?")[0].rstrip(b"/") + path.encode("ascii")
            query = b"?" + url.query if url.query else b""
            url = url.copy_with(raw_path=raw_path + query)
        return cls(method, url, f"{method} {shown_url(url)}{through}", target_of(url))


@dataclass(frozen=True, slots=True)
class _Sender:
    """Connections to a server.

    Attributes:
        send: sends a request; the body of the answer is yet to be read.
        aclose: closes them.
    """

    send: Callable[[httpx.Request], Awaitable[httpx.Response]]
    aclose: Callable[[], Awaitable[None]]


class HttpSession:
    """A pool of keep-alive connections, as many as the task may have calls under way.

    The bound is a semaphore before the pool, not the pool's own: a call that is cancelled while it
    waits inside httpcore's pool can take a place there for good (httpcore issue 1093).

    Args:
        config: the settings.
        headers: the protocol's own headers; those of the settings override them.

    Attributes:
        route: the way to the server.

    Raises:
        ConfigError: there is none; see ``sinfer.http.routes``.
    """

    def __init__(self, config: HttpConfig, headers: Mapping[str, str] | None = None) -> None:
        self._timeout_s = config.timeout.total_seconds()
        self._most_bytes = config.max_response_bytes
        self._timeout_text = format_duration(config.timeout)
        self._headers = _all_headers(config, headers or {})
        self._json_headers = httpx.Headers([*self._headers, (b"Content-Type", b"application/json")])
        self._url = config.url
        self.route = route_to(
            httpx.URL(config.url),
            part="inference.",
            proxy=config.proxy,
            verify=config.verify,
            ca_file=config.ca_file,
        )
        self._secrets = self.route.secrets
        self._timeout = httpx.Timeout(None, connect=config.connect_timeout.total_seconds())
        self._timeouts = self._timeout.as_dict()
        self._connect_timeout = aiohttp.ClientTimeout(sock_connect=self._timeout.connect)
        self._kept = self._sender(httpx.Limits(keepalive_expiry=_KEEPALIVE_S))
        self._new_connections = self._sender(httpx.Limits(max_keepalive_connections=0))
        self._places = asyncio.Semaphore(config.most_at_once)

    def _sender(self, limits: httpx.Limits) -> _Sender:
        """What sends requests: the transport itself where it can, since a client of httpx around it
        costs as much again."""
        transport = self.route.transport(limits)
        if transport is not None:
            return _Sender(functools.partial(self._ask, transport), transport.aclose)
        client = self.route.client(limits, timeout=self._timeout)
        return _Sender(functools.partial(self.route.send, client), client.aclose)

    def endpoint(self, method: str, path: str = "") -> Endpoint:
        """What to call at a path below the URL of the settings; see ``Endpoint.of``."""
        return Endpoint.of(method, self._url, path, self.route.through)

    async def request(
        self,
        endpoint: Endpoint,
        body: bytes | None = None,
        *,
        idempotency_key: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Call once and return an answer of status 2xx, read to its end.

        Args:
            body: JSON, unless the headers give another ``Content-Type``.
            idempotency_key: sent as ``Idempotency-Key``, percent-encoded where it must be.
            headers: further headers of this call.

        Raises:
            InferenceError: as told in ``http_errors``.
        """
        all_headers = self._json_headers
        if headers is not None or idempotency_key:
            all_headers = all_headers.copy()
            if headers is not None:
                all_headers.update(headers)
            if idempotency_key:
                all_headers["Idempotency-Key"] = quote(idempotency_key, safe=_VISIBLE_ASCII)
        request = httpx.Request(
            endpoint.method,
            endpoint.url,
            headers=all_headers,
            content=body,
            extensions={
                FURTHER_SECRETS: self._secrets,
                "timeout": self._timeouts,
                _TARGET: endpoint.target,
            },
        )
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                answer = await self._send(request)
                if _is_bounded(answer, self._most_bytes):
                    await answer.aread()
                    response = answer
                else:
                    response = await read_bounded(answer, self._most_bytes)
        except TimeoutError:
            raise InferenceUnavailableError(
                f"{endpoint.call}: no answer within {self._timeout_text}"
            ) from None
        except AnswerTooLargeError:
            raise InvalidResponseError(
                f"{endpoint.call}: the answer is larger than inference.max_response_bytes"
                f" ({self._most_bytes} bytes)"
            ) from None
        except AnswerEncodingError as error:
            raise InvalidResponseError(f"{endpoint.call}: {error}") from None
        except FOREIGN_ERRORS as error:
            raise error_of_exception(error, endpoint.call) from error
        if not response.is_success:
            raise error_of_status(response, endpoint.call)
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send a request; where a connection from before turns out to be closed, on a new one.

        A server may close a connection that it keeps open, at any moment and without saying so. Who
        sends a request just then gets no answer, and the server has not seen the request. On a new
        connection the same means that it has.
        """
        is_new = False

        async def note(event: str, _: Any) -> None:
            nonlocal is_new
            if event.endswith(".connect_tcp.started"):
                is_new = True
            if event.endswith(_SENDING):  # it has its connection: nothing more is to be known
                request.extensions.pop("trace", None)

        request.extensions["trace"] = note
        try:
            return await self._kept.send(request)
        except _CLOSED:
            if is_new or _ANSWERED in request.extensions:
                raise
            return await self._new_connections.send(request)

    async def _ask(self, transport: AiohttpTransport, request: httpx.Request) -> httpx.Response:
        """As ``AiohttpTransport.handle_async_request``, for the many small answers of models: one
        that is not larger than it may be is read at once, without a stream of httpx around it."""
        session = transport.session or transport.open()
        try:
            answer = await session.request(
                request.method,
                request.extensions[_TARGET],
                data=request.content or None,
                headers=[(n.decode("ascii"), v.decode("latin-1")) for n, v in request.headers.raw],
                allow_redirects=False,
                timeout=self._connect_timeout,
                trace_request_ctx=request,
            )
            if not _is_bounded(answer, self._most_bytes):
                return streamed(answer, request)
            request.extensions[_ANSWERED] = True
            body = await answer.read()
        except FOREIGN as error:
            raise as_of_httpx(error, request) from cause_of(error)
        return httpx.Response(
            answer.status, headers=answer.raw_headers, content=body, request=request
        )

    async def request_json(
        self, endpoint: Endpoint, value: Any = None, *, idempotency_key: str = ""
    ) -> tuple[Any, httpx.Response]:
        """Send a value as JSON and return the JSON of the answer, and the answer.

        Raises:
            InferenceRejectedError: the value has no form in JSON.
            InvalidResponseError: the answer is no JSON.
            InferenceError: as told in ``http_errors``.
        """
        body = None if endpoint.method == "GET" else json_body(value)
        response = await self.request(endpoint, body, idempotency_key=idempotency_key)
        try:
            return from_foreign_json(response.content), response
        except (ValueError, RecursionError) as error:
            raise invalid_response(response, endpoint.call, f"no JSON ({error})") from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._kept.aclose()
        await self._new_connections.aclose()


def _is_bounded(response: httpx.Response | aiohttp.ClientResponse, most_bytes: int) -> bool:
    """Whether an answer of status 2xx can be no larger: unpacked, and with a length that
    the connection holds it to."""
    headers = response.headers
    announced = headers.get("content-length", "")
    status = response.status_code if isinstance(response, httpx.Response) else response.status
    return (
        200 <= status < 300
        and announced.isdecimal()
        and int(announced) <= most_bytes
        and "content-encoding" not in headers
        and "transfer-encoding" not in headers
    )


class HttpInferenceClient(InferenceClient):
    """A client with an ``HttpSession``."""

    Config: ClassVar[type[ConfigModel]] = HttpConfig

    def __init__(self, config: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(config)
        self.http = HttpSession(config, headers)

    @property
    def endpoint(self) -> str:
        url = httpx.URL(self.config.url)
        return f"{url.scheme}://{url.netloc.decode()}".lower()

    @property
    def called(self) -> str:
        url = httpx.URL(self.config.url)
        place = self.endpoint + url.path.rstrip("/")
        if url.query:  # may say which model, and may be a secret
            place += f"?{sha256(url.query).hexdigest()[:8]}"
        return name_of_model(self.type, place, self.config)

    @property
    def missing(self) -> str:
        """What a server lacks that answers ``harmless`` with 404, and the remedy."""
        return ""

    @property
    def harmless(self) -> Endpoint:
        """A question that the server answers without the model."""
        return self.http.endpoint("OPTIONS")

    async def check(self) -> list[Checked]:
        harmless = self.harmless
        try:
            response = await self.http.request(harmless)
        except InferenceError as error:
            if _is_there(harmless, error):
                return [Checked("ok", f"{harmless.call} is answered with {error.status}")]
            place = f"{shown_url(harmless.url)}{self.http.route.through}"
            return [checked_error(error, place, self.missing)]
        return self.checked_answer(response)

    def checked_answer(self, response: httpx.Response) -> list[Checked]:
        """What an answer of status 2xx to ``harmless`` says."""
        return [Checked("ok", f"{self.harmless.call} is answered with {response.status_code}")]

    async def aclose(self) -> None:
        await self.http.aclose()


def _is_there(endpoint: Endpoint, error: InferenceError) -> bool:
    """Whether an error of OPTIONS comes from a server that only does not know the method."""
    return endpoint.method == "OPTIONS" and (
        error.status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
        or isinstance(error, InferenceRejectedError)
    )


def json_body(value: Any) -> bytes:
    """The bytes of a JSON request.

    Raises:
        InferenceRejectedError: some value in it has no form in JSON.
    """
    try:
        return to_json(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InferenceRejectedError(f"the request cannot be written as JSON: {error}") from error


def path_part(name: str) -> str:
    """A model's name or version as one part of a path."""
    return quote(name, safe="")


def _all_headers(config: HttpConfig, own: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    headers = httpx.Headers(
        {
            "Accept": "application/json",
            "Accept-Encoding": ACCEPT_ENCODING,
            "User-Agent": "sinfer",
        }
    )
    url = httpx.URL(config.url)
    if url.userinfo:
        pair = f"{url.username}:{url.password}".encode()
        headers["Authorization"] = f"Basic {b64encode(pair).decode()}"
    headers.update(own)
    headers.update({name: value.get_secret_value() for name, value in config.headers.items()})
    return headers.raw
