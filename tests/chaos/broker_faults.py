"""Faults of the Celery broker: messages vanish, come twice, or all of the broker is wiped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from sinfer.types.queues import TICK_QUEUE, product_queue
from tests.chaos.faults import Fault, World
from tests.chaos.site import PRODUCT

_QUEUES = (TICK_QUEUE, product_queue(PRODUCT))


@asynccontextmanager
async def deleted(world: World) -> AsyncIterator[str]:
    """All messages that wait in the broker are gone."""
    with suppress(RedisError, OSError):
        await world.progress.broker.delete(*_QUEUES)
    yield ""


@asynccontextmanager
async def duplicated(world: World) -> AsyncIterator[str]:
    """All messages that wait in the broker come three times, in another order."""
    broker = world.progress.broker
    with suppress(RedisError, OSError):
        for queue in _QUEUES:
            waiting = await broker.lrange(queue, 0, 200)
            if waiting:
                await broker.lpush(queue, *waiting, *reversed(waiting))
    yield ""


@asynccontextmanager
async def wiped(world: World) -> AsyncIterator[str]:
    """The broker's database is empty: messages, bindings and what workers have in hand."""
    with suppress(RedisError, OSError):
        await world.progress.broker.flushdb()
    yield ""


BROKER_FAULTS = (
    Fault("broker: messages deleted", deleted, 2.0),
    Fault("broker: messages duplicated", duplicated, 2.0),
    Fault("broker: wiped", wiped, 1.0),
)
