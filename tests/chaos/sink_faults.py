"""Faults of the sinks alone: a locked database. The stream of results is cut off by the network."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from tests.chaos.faults import Fault, World


@asynccontextmanager
async def database_locked(world: World) -> AsyncIterator[str]:
    """Someone else holds the lock of a task's database, for longer than the sink waits."""
    task = world.random.choice(world.site.tasks)
    path = world.site.database(task)
    connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
    with closing(connection):
        try:
            await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            yield f"{path.name}: is locked anyway"
            return
        yield path.name


SINK_FAULTS = (Fault("sink: database locked", database_locked, 2.0, 0.5, 4.0),)
