"""What a command is connected to while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from nats.aio.client import Client

from sinfer.nats.connection import connect
from sinfer.operations.products import Tasks
from sinfer.products.task import InferTaskConfig
from sinfer.settings import settings
from sinfer.store.connection import Store

T = TypeVar("T")


class Session:
    """The window store, and the products, for one command.

    Attributes:
        store: the window store.
        tasks: the products' tasks.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.tasks = Tasks(settings().products)

    @asynccontextmanager
    async def nats(self, task: InferTaskConfig) -> AsyncIterator[Client]:
        """A connection to the JetStream of a task's source."""
        client = await connect(task.source.place, name="sinfer-cli")
        try:
            yield client
        finally:
            await client.close()


def with_session(command: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """Run a command's own code with a session that is closed behind it."""

    async def run() -> T:
        store = Store.from_settings()
        try:
            return await command(Session(store))
        finally:
            await store.aclose()

    return asyncio.run(run())
