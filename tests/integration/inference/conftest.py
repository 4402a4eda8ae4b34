"""A scripted HTTP server, and clients that are closed afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sinfer.embedded.model_process import ModelServer
from sinfer.inference.base import InferenceClient
from tests.support.http_server import ScriptedServer


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
