"""How the embedded model servers are served: uvicorn and starlette, and answers that break off.

What goes wrong below HTTP is ordered by what an ASGI server does with an application that goes
wrong: uvicorn closes a connection whose answer is left half-way, or whose application raises.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from sinfer.embedded.example_model import BadRequestError
from sinfer.extras import extras_named
from sinfer.ports import listening

with extras_named():
    import httptools  # noqa: F401  # uvicorn would do without it, at a third of the speed
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

_BACKLOG = 2048
_KEPT_ALIVE_S = 24 * 3600
_WITHOUT_BODY = (204, 304)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Json(Response):
    """An answer in JSON: any value, or bytes as they are."""

    media_type = "application/json"

    def __init__(
        self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(b"" if status in _WITHOUT_BODY else content, status, headers)

    def render(self, content: Any) -> bytes:
        """The body."""
        return content if isinstance(content, bytes) else _encode(content)


class HalfAnswer(Json):
    """Announces the whole body, sends the first half of it, and closes the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(start)
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})


class LastAnswer(Json):
    """Closes the connection after it, although it does not say so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        raise ConnectionAbortedError


def application(routes: Sequence[Route], *, no_path: str, not_allowed: str) -> Starlette:
    """An application that tells all errors in JSON.

    Args:
        routes: what it serves.
        no_path: the error where there is nothing, with ``{path}`` in it.
        not_allowed: the error for another method, with ``{method}`` in it.
    """

    def refusal(status: int, text: str) -> Any:
        async def refuse(request: Request, _: Exception) -> Json:
            told = text.format(method=request.method, path=request.scope["path"])
            return Json({"error": told}, status)

        return refuse

    async def refuse_request(_: Request, error: Exception) -> Json:
        return Json({"error": str(error)}, 400)

    async def fail(_: Request, error: Exception) -> Json:
        if not isinstance(error, ConnectionAbortedError):
            _log.error("a request failed", exc_info=error)
        return Json({"error": f"{type(error).__name__}: {error}"}, 500)

    handlers = {
        404: refusal(404, no_path),
        405: refusal(405, not_allowed),
        BadRequestError: refuse_request,
        Exception: fail,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


async def client_left(request: Request, within_s: float | None) -> bool:
    """Wait until the client has closed its connection; False when it has not.

    Args:
        request: whose body has been read.
        within_s: how long to wait, seconds; None for as long as it takes.
    """
    try:
        async with asyncio.timeout(within_s):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


class Server(uvicorn.Server):
    """uvicorn, which here writes no log and leaves signals to whoever runs it.

    Args:
        app: what it serves.
    """

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEPT_ALIVE_S,
            )
        )
        self.servers = []

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    def close(self) -> None:
        """Take no more connections, and drop those that there are."""
        for listener in self.servers:
            listener.close()
        self.drop_connections()

    def drop_connections(self) -> None:
        """Close all connections at once, whatever is under way."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        OSError: it cannot be listened there.
    """
    [family, *_], *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # Connections inherit it. Without it the end of each answer waits for a sign of life.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve an application until SIGTERM or SIGINT; then drop all connections at once.

    Raises:
        UnavailableError: another process has the port.
        ConfigError: it cannot be listened there.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with listening(host, port, "--port (or --host)"):
        listener = listen(host, port)
    server = Server(app)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    print(f"model server: http://{host}:{port}", flush=True)
    await stop.wait()
    server.close()
    serving.cancel()
