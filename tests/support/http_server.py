"""HTTP servers of tests: uvicorn in the test's own event loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from sinfer.embedded.http_server import Json, LastAnswer, Server, client_left, listen
from sinfer.encoding import to_json


@asynccontextmanager
async def serving(app: ASGIApp, tls: ssl.SSLContext | None = None) -> AsyncIterator[Served]:
    """A server on a free loopback port, in this event loop."""
    server = Server(app)
    server.config.load()
    server.config.ssl = tls
    listener = listen("127.0.0.1", 0)
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}"
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Served(server, url)
    finally:
        await _end(server, running)
        listener.close()


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs, and where it listens."""

    server: Server
    url: str


async def _end(server: Server, running: asyncio.Task[None]) -> None:
    """End a server, and what is under way in it, however long that would take."""
    server.close()
    under_way = {running, *server.server_state.tasks}
    for task in under_way:
        task.cancel()
    await asyncio.wait(under_way)


class ThreadedServer:
    """A server on a loopback port, in a thread of its own, within a ``with`` block.

    Args:
        app: what it serves.
        port: by default a free one.
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self._listener = listen("127.0.0.1", port)
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._server = Server(app)
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        running = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        await self._stop.wait()
        await _end(self._server, running)
        self._listener.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


class Exchange:
    """One request and the one answer to it, which may be given at once or later.

    Attributes:
        method: in capitals, such as ``"POST"``.
        path: as it was sent, without the query.
        headers: names in lower case.
        body: the whole body.
    """

    def __init__(self, request: Request, body: bytes) -> None:
        self.method = request.method
        self.path = request.scope["raw_path"].decode()
        self.headers = dict(request.headers)
        self.body = body
        self.given: asyncio.Future[Json] = asyncio.get_running_loop().create_future()

    def reply(
        self, status: int, body: bytes = b"", *, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """Answer; nothing happens if the client is gone."""
        self.given.set_result(Json(body, status, dict(headers)))

    def reply_and_close(self, status: int, body: bytes = b"") -> None:
        """Answer, and close the connection although the answer does not say so."""
        self.given.set_result(LastAnswer(body, status))


class ScriptedServer:
    """Keeps the requests that it gets and answers each as told, in the test's own event loop.

    Attributes:
        url: where it listens.
        requests: what it got, in order.
        answer: answers an exchange; by default with the JSON in ``body``.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Exchange] = []
        self.body: Any = {}
        self.answer: Callable[[Exchange], None] = lambda exchange: exchange.reply(
            200, to_json(self.body)
        )
        self._server: Server

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        exchange = Exchange(request, await request.body())
        self.requests.append(exchange)
        self.answer(exchange)
        left = asyncio.ensure_future(client_left(request, None))
        left.add_done_callback(lambda _: exchange.given.cancel())
        await asyncio.wait({exchange.given})
        left.cancel()
        if not exchange.given.cancelled():
            await exchange.given.result()(scope, receive, send)

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
        async with serving(self._serve, tls) as served:
            self._server, self.url = served.server, served.url
            yield self

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    def drop_connections(self) -> None:
        """Close all at once."""
        self._server.drop_connections()
