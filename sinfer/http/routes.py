"""How an HTTP server is reached: through which proxy, trusting whom; and the client for that.

httpx would look into the environment by itself, and end with a traceback at what it finds there.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from sinfer.aio.cancel import end
from sinfer.config.trust import trust
from sinfer.hooks.call import describe
from sinfer.http import proxies
from sinfer.http.aiohttp_transport import AiohttpTransport
from sinfer.http.proxies import Proxy, proxy_for


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one server.

    Attributes:
        proxy: what is asked in its place; None for the server itself.
        verify: whom its certificate must come from.
        verify_proxy: the same for a proxy that is reached by TLS.
    """

    proxy: Proxy | None
    verify: ssl.SSLContext
    verify_proxy: ssl.SSLContext | None = None

    @property
    def through(self) -> str:
        """Behind the name of the server, for errors; empty without a proxy."""
        return proxies.through(self.proxy)

    @property
    def secrets(self) -> list[str]:
        """What no text must be quoted with."""
        return [] if self.proxy is None else self.proxy.secrets

    @property
    def is_socks(self) -> bool:
        """Whether only ``send`` knows the way."""
        return self.proxy is not None and self.proxy.is_socks

    def transport(self, limits: httpx.Limits) -> AiohttpTransport | None:
        """What sends requests to the server; None where that is for ``client``, through a proxy."""
        return AiohttpTransport(self.verify, limits) if self.proxy is None else None

    def client(
        self, limits: httpx.Limits, *, is_lenient: bool = False, **options: Any
    ) -> httpx.AsyncClient:
        """A client for the server, and for no other.

        Args:
            limits: of its connections. Their number is bounded where httpx makes them.
            is_lenient: tell the status of an answer whose body is no HTTP. It costs processor time:
                httpx makes the connections then, as it does through a proxy.
            options: those of httpx that have nothing to do with the way.
        """
        make = partial(httpx.AsyncClient, trust_env=False, **options)
        if self.proxy is None and not is_lenient:
            return make(transport=self.transport(limits))
        proxy = None
        if self.proxy is not None:
            proxy = httpx.Proxy(self.proxy.url, ssl_context=self.verify_proxy)
        return make(verify=self.verify, proxy=proxy, limits=limits)

    async def send(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        """Send a request and return its answer, of which the body is yet to be read.

        Raises:
            httpx.ProxyError: the proxy gave no connection; the server has not seen the request.
            httpx.HTTPError: and all else that httpx raises.
        """
        if not self.is_socks:
            return await client.send(request, stream=True)
        return await _send_by_socks(client, request)


async def _send_by_socks(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """As ``Route.send``. httpcore leaves a connection open, and in its pool, with which the proxy
    does not get on, and it lets the errors of its SOCKS package pass as they are."""
    opened: list[Any] = []
    before = request.extensions.get("trace")

    async def note(event: str, info: Any) -> None:
        if event.endswith(".connect_tcp.complete"):
            opened.append(info["return_value"])
        if before is not None:
            await before(event, info)

    request.extensions["trace"] = note
    sending = asyncio.create_task(client.send(request, stream=True))
    is_over = False
    try:
        await asyncio.wait({sending})
        response = sending.result()
        is_over = True
    except _OF_HTTPX:
        raise
    except Exception as error:
        text = f"it does not speak SOCKS 5 ({describe(error)})"
        raise httpx.ProxyError(text, request=request) from error
    finally:
        if not is_over:
            for stream in opened:  # so that it fails, rather than being cancelled
                with suppress(Exception):
                    await stream.aclose()
            await asyncio.wait({sending}, timeout=_LEAVING_S)
            await end(sending)
    return response


def route_to(
    url: httpx.URL,
    *,
    part: str,
    proxy: SecretStr | None,
    verify: bool,
    ca_file: Path | None,
) -> Route:
    """The way to a server.

    Args:
        url: of the server.
        part: of the task that says so, as errors put it before its fields: ``inference.``.
        proxy, verify, ca_file: as that part has them.

    Raises:
        ConfigError: there is none: the proxy or the certificates that the task or the environment
            names cannot be used.
    """
    found = proxy_for(url, proxy, f"{part}proxy")
    field = f"{part}ca_file"
    return Route(
        found,
        trust(verify, ca_file, field) if url.scheme == "https" else _NOBODY,
        trust(True, ca_file, field) if found is not None and found.url.scheme == "https" else None,
    )


_OF_HTTPX = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)

_LEAVING_S = 1.0
"""How long a call that is broken off may take to notice."""

_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For servers that are reached without TLS."""
