"""A scripted HTTP server in the test's own event loop, and clients that are closed afterwards."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from sinfer.embedded.http_protocol import Exchange, HttpProtocol
from sinfer.embedded.model_process import ModelServer
from sinfer.encoding import to_json
from sinfer.inference.base import InferenceClient


class ScriptedServer:
    """Keeps the requests that it gets and answers each as told.

    Attributes:
        url: where it listens.
        requests: what it got, in order.
        answer: answers an exchange; by default with the JSON in ``body``.
        connections: those that are open.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Exchange] = []
        self.body: Any = {}
        self.answer: Callable[[Exchange], None] = lambda exchange: exchange.reply(
            200, to_json(self.body)
        )
        self.connections: set[HttpProtocol] = set()

    def serve(self, exchange: Exchange) -> None:
        self.requests.append(exchange)
        self.answer(exchange)

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: HttpProtocol(self.serve, self.connections), "127.0.0.1", 0, ssl=tls
        )
        host, port = listener.sockets[0].getsockname()
        self.url = f"{'https' if tls else 'http'}://{host}:{port}"
        try:
            yield self
        finally:
            listener.close()
            for connection in list(self.connections):
                connection.abort()


@pytest.fixture
async def http_server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer().listening() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Any]]:
    """Makes a client of the settings of an ``inference:`` part."""
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> Any:
            config = InferenceClient.validator()(settings)
            made: InferenceClient = InferenceClient.class_for(config)(config)
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
def model(model_server: ModelServer) -> ModelServer:
    """The model server without faults, its counters at zero."""
    model_server.reset()
    return model_server
