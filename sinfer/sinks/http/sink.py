"""The http sink: each window is posted to a URL."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from http.client import PROXY_AUTHENTICATION_REQUIRED
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import Field, SecretStr, field_validator

from sinfer.config.proxy import Proxy
from sinfer.config.secret import Secret
from sinfer.config.units import Duration, unit
from sinfer.encoding import to_json
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.http.aiohttp_transport import MalformedAnswerError
from sinfer.http.read_limit import (
    ACCEPT_ENCODING,
    MOST_OF_ERRORS,
    AnswerEncodingError,
    AnswerTooLargeError,
    read_bounded,
)
from sinfer.http.retry_after import retry_after
from sinfer.http.routes import route_to
from sinfer.logging.masking import hide, secret_parameters
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.header_value import header_value
from sinfer.sinks.http.doubts import DoubtfulError, Doubts
from sinfer.sinks.name_length import fitted
from sinfer.types.check import Checked, connection_problem
from sinfer.types.result import WindowResults

_RETRY = {408, 425, 429}
_DENIED = {401, 403, 407}
_MISSING = {404, 410}
_NO_ANSWER = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_SETTINGS = {401, 402, 405, 406, 407, 411, 414, 415, 417, 421, 426, 428, 431, 451}
"""What these say does not depend on the results; nor does a redirect."""
_DOUBTFUL = {403, 404, 410}
_REMEDY = "correct 'url' or 'headers' of the sink, or what they have access to"
_SHOWN_CHARACTERS = 200
_READING_S = 2.0
"""How long the rest of an answer is waited for, once its status is there."""
_LONGEST_KEY = 255
"""Receivers commonly take no longer ones."""


class HttpSink(Sink):
    """Posts windows; the receiver tells repeated ones by the ``Idempotency-Key`` header.

    The key is the window's name and a checksum of the body, so that the body is the same, byte for
    byte, whenever the key is. What is written again as it was, after a time-out say, has the same
    key; a window of which a part is redriven, or whose results are others when it is run again, has
    another one::

        {"product": …, "task": …, "window": …, "revision": …, "key": …, "start_ms": …,
         "end_ms": …, "results": [{"id": …, "ordinal": …, "data": …}, …]}

    The ``id`` of a result is its idempotency key: what comes with an ``id`` that was there before
    replaces it. With ``ack: done`` it names the message: after Redis was wiped, a result may come
    once more in a window of another name, with the same ``id``.

    2xx means written. 408, 425, 429, 5xx and errors of the connection: the window is written
    again later, and not before a ``Retry-After`` says so. The same goes for answers that tell of
    the URL or its headers and not of the results, such as 401 and redirects: nothing is given up
    while somebody corrects them. 403, 404 and 410 may tell of either, see ``doubts``. All
    other 4xx say that some result is bad, or that there are too many: the window is posted in
    halves, each under a key of its own, until what is refused stands alone.
    """

    type = "http"

    class Config(SinkConfig):
        """Settings of the http sink."""

        type: Literal["http"] = "http"
        url: Secret
        """Where to post; may refer to the environment as ``${NAME}``."""
        headers: dict[str, Secret] = Field(default_factory=dict)
        """Further headers, such as ``Authorization: Bearer ${TOKEN}``."""
        timeout: Duration = Field(default="10s", validate_default=True)
        """Longest wait for an answer, connecting and sending included."""
        verify: bool = True
        """Whether the certificate of an ``https://`` receiver must be valid."""
        ca_file: Path | None = None
        """PEM file of the certificate authorities to trust instead of those that ``SSL_CERT_FILE``
        or ``SSL_CERT_DIR`` names, or the usual ones."""
        proxy: Proxy | None = None
        """The proxy to ask through: a URL, ``none``, or ``environment`` for what ``HTTPS_PROXY``,
        ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say; by default that of ``SINFER_PROXY``."""
        max_connections: int = Field(default=16, ge=1, json_schema_extra=unit("connections"))
        """Windows that are posted at once by one process; others wait for their turn."""

        @field_validator("url")
        @classmethod
        def _http(cls, value: SecretStr) -> SecretStr:
            try:
                url = httpx.URL(value.get_secret_value())
            except httpx.InvalidURL:
                url = httpx.URL()
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("is a URL that begins with http:// or https://")
            return value

        @field_validator("headers")
        @classmethod
        def _plain(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
            for name, secret in value.items():
                if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                    raise ValueError(f"{name!r} is no name of a header")
                text = secret.get_secret_value()
                if not (text.isascii() and text.isprintable()):
                    raise ValueError(f"{name}: the value has characters that no header may have")
            return value

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._url = httpx.URL(config.url.get_secret_value())
        self._route = route_to(
            self._url,
            part="",
            proxy=config.proxy,
            verify=config.verify,
            ca_file=config.ca_file,
        )
        server = f"{self._url.scheme}://{self._url.netloc.decode().rpartition('@')[2]}"
        self._place = f"{server}{self._route.through}"
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        # What httpx makes of the user in the URL.
        basic = b64encode(f"{self._url.username}:{self._url.password}".encode()).decode()
        parameters = secret_parameters(str(self._url))
        self._secrets = [*headers.values(), f"Basic {basic}", self._url.password, *parameters]
        self._secrets += self._route.secrets
        self._timeout_s = config.timeout.total_seconds()
        self._places = asyncio.Semaphore(config.max_connections)
        self._doubts = Doubts(lambda part: self._post(part, whole=False))
        self._make_client = partial(
            self._route.client,
            httpx.Limits(
                max_connections=config.max_connections,
                max_keepalive_connections=config.max_connections,
            ),
            headers={
                **headers,
                "Content-Type": "application/json",
                "Accept-Encoding": ACCEPT_ENCODING,
            },
            timeout=httpx.Timeout(config.timeout.total_seconds(), pool=None),
        )
        self._client = self._make_client()
        self._lenient: httpx.AsyncClient | None = None

    async def write(self, results: WindowResults) -> None:
        if not results.rows:
            return
        try:
            refused = await self._post(results, whole=True)
        except DoubtfulError as doubt:
            refused = await self._doubts.look(results, doubt)
        else:
            if len(refused) < len(results):
                self._doubts.taken()
        if refused:
            raise SinkRejectedError(refused[min(refused)], ordinals=refused)

    async def _post(self, results: WindowResults, *, whole: bool) -> dict[int, str]:
        """Post results, and when they are refused together their halves.

        Returns:
            The ordinals of those that are refused, and why.

        Raises:
            DoubtfulError: they are refused, or the receiver refuses everything.
            SinkUnavailableError: not now.
        """
        body = _body(results)
        request = self._client.build_request(
            "POST",
            self._url,
            content=body,
            headers={"Idempotency-Key": _key(results, body, whole=whole)},
        )
        async with self._places:
            response = await self._answer(request)
        if response.is_success:
            return {}
        status = response.status_code
        text = f"{self._place} answered {status} {self._masked(response.text)}".strip()
        if status in _RETRY or status >= 500:
            wait_s = retry_after(response.headers.get("Retry-After"))
            raise SinkUnavailableError(text, retry_after=wait_s)
        if status in _DOUBTFUL:
            raise DoubtfulError(f"{text}; {_REMEDY}")
        if status in _SETTINGS or status < 400:
            is_of_proxy = response.status_code == PROXY_AUTHENTICATION_REQUIRED
            remedy = "correct the proxy's user and password" if is_of_proxy else _REMEDY
            raise SinkUnavailableError(f"{text}; {remedy}")
        if len(results) == 1:
            return {results.rows[0].ordinal: text}
        middle = len(results) // 2
        halves = (results.rows[:middle], results.rows[middle:])
        posts = [self._post(replace(results, rows=half), whole=False) for half in halves]
        # Both come to their end, whatever becomes of the other.
        refused: dict[int, str] = {}
        for found in await asyncio.gather(*posts, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found
            refused |= found
        return refused

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """The answer, with as much of its body as came in time.

        Raises:
            SinkUnavailableError: there is none.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._sent(request)
        except TimeoutError:
            raise SinkUnavailableError(
                f"{self._place} did not answer within {self._timeout_s:g} s"
            ) from None
        except httpx.RequestError as error:
            raise SinkUnavailableError(
                f"{self._place} did not answer: {self._masked(str(error)) or type(error).__name__}"
            ) from error
        # What the receiver did is known; whatever it sends besides changes nothing.
        with suppress(TimeoutError, AnswerTooLargeError, AnswerEncodingError, httpx.HTTPError):
            async with asyncio.timeout(min(self._timeout_s, _READING_S)):
                return await read_bounded(response, MOST_OF_ERRORS)
        return httpx.Response(response.status_code, headers=response.headers, content=b"")

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        """Send a request. A receiver that once answers with a status and no HTTP behind it is asked
        again, and from then on, by a client that tells the status all the same."""
        if self._lenient is None:
            try:
                return await self._route.send(self._client, request)
            except MalformedAnswerError:
                self._lenient = self._make_client(is_lenient=True)
        return await self._route.send(self._lenient, request)

    async def check(self) -> list[Checked]:
        """Ask with OPTIONS, which receivers answer without taking anything."""
        request = self._client.build_request("OPTIONS", self._url)
        try:
            status = (await self._answer(request)).status_code
        except SinkUnavailableError as error:
            found = connection_problem(error)
            if found is None and isinstance(error.__cause__, _NO_ANSWER):
                found = connection_problem(ConnectionResetError())
            if found is None and isinstance(error.__cause__, httpx.ConnectTimeout):
                found = connection_problem(TimeoutError())
            if found is None:
                return [Checked("unreachable", str(error), "url", is_silent=True)]
            return [found._replace(text=f"{self._place} {found.text}", field="url")]
        if status in _DENIED:
            text = f"{self._place} answers {status} to OPTIONS: it may refuse the credentials"
            return [Checked("warning", text, "headers")]
        if status in _MISSING:
            text = f"{self._place} answers {status} to OPTIONS: there may be nothing at this path"
            return [Checked("warning", text, "url")]
        return [Checked("ok", f"{self._place} answers (OPTIONS: {status}); nothing was sent")]

    @property
    def server(self) -> str:
        return self._place

    def _masked(self, text: str) -> str:
        return hide(text, self._secrets)[:_SHOWN_CHARACTERS]

    async def aclose(self) -> None:
        await self._client.aclose()
        if self._lenient is not None:
            await self._lenient.aclose()


def _key(results: WindowResults, body: bytes, *, whole: bool) -> str:
    """The window, the sink and a checksum of the body."""
    if whole and not results.incarnation and not results.is_again:
        return header_value(results.window_id)  # as earlier versions began it
    name = header_value(f"{results.window_name}{results.key_suffix}")
    digest = blake2b(body, digest_size=16).hexdigest()
    return f"{fitted(name, _LONGEST_KEY - len(digest) - 1)}/{digest}"


def _body(results: WindowResults) -> bytes:
    """The window as JSON: nothing that differs from one try to the next."""
    head: dict[str, Any] = {"product": results.product} if results.incarnation else {}
    head |= {
        "task": results.task,
        "window": results.window_id,
        "revision": results.revision,
        "key": results.key,
        "start_ms": results.start_ms,
        "end_ms": results.end_ms,
    }
    rows = b",".join(
        b'{"id":%b,"ordinal":%d,"data":%b}'
        % (to_json(results.idempotency_key(row)), row.ordinal, row.data)
        for row in results
    )
    return b'%b,"results":[%b]}' % (to_json(head)[:-1], rows)
