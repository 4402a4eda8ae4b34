"""Faults of the model server: every status, no answer, half an answer, nonsense."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import httpx

from sinfer.errors import UnavailableError
from sinfer.store.boards.pauses import PauseBoard
from tests.chaos.faults import Fault, World
from tests.chaos.site import PRODUCT, TWIN

_LATER = (408, 429, 502, 503, 504)
_BISECTS = (400, 413, 422, 500)
_PAUSES = (401, 403, 404, 501)


def _order(world: World, *faults: dict[str, Any]) -> None:
    """Have the model server misbehave; when another fault took it away, there is nothing to do."""
    with suppress(httpx.HTTPError):
        world.site.model.order(*faults)


def misbehaves(**fault: Any) -> Callable[[World], AbstractAsyncContextManager[str]]:
    """Every call meets this fault until it is mended."""

    @asynccontextmanager
    async def breaks(world: World) -> AsyncIterator[str]:
        await asyncio.to_thread(_order, world, {**fault, "count": None})
        try:
            yield fault["mode"]
        finally:
            await asyncio.to_thread(_order, world)
            await resume_all(world)  # answers that nobody can read pause a task in the end

    return breaks


@asynccontextmanager
async def fails_for_a_while(world: World) -> AsyncIterator[str]:
    """Every call is answered with one status that means: later."""
    status = world.random.choice(_LATER)
    fault: dict[str, Any] = {"status": status, "count": None}
    if world.random.random() < 0.5:
        fault["retry_after"] = world.random.choice([0.2, 1])
    await asyncio.to_thread(_order, world, fault)
    try:
        yield str(status)
    finally:
        await asyncio.to_thread(_order, world)


@asynccontextmanager
async def refuses_a_few(world: World) -> AsyncIterator[str]:
    """A few calls are answered with a status that means: something in the request is bad."""
    status = world.random.choice(_BISECTS)
    count = world.random.randint(1, 3)
    await asyncio.to_thread(_order, world, {"status": status, "count": count})
    try:
        yield str(status)
    finally:
        await resume_all(world)


@asynccontextmanager
async def misconfigured(world: World) -> AsyncIterator[str]:
    """A call is answered with a status that pauses its task; someone resumes it afterwards."""
    status = world.random.choice(_PAUSES)
    await asyncio.to_thread(_order, world, {"status": status, "count": 1})
    try:
        yield str(status)
    finally:
        await asyncio.to_thread(_order, world)
        await resume_all(world)


async def resume_all(world: World) -> None:
    """End every pause, as someone does who has put the model right."""
    board = PauseBoard(world.progress.store)
    for task in world.site.tasks:
        with suppress(UnavailableError):
            await board.resume(PRODUCT, task.id)
            if task.is_twofold:
                await board.resume(TWIN, task.id)


MODEL_FAULTS = (
    Fault("model: try later", fails_for_a_while, 2.0, 0.5, 4.0),
    Fault("model: refuses", refuses_a_few, 2.0),
    Fault("model: misconfigured", misconfigured, 1.0, 0.5, 2.0),
    Fault("model: hangs", misbehaves(mode="hang"), 1.0, 0.5, 4.0),
    Fault("model: closes midway", misbehaves(mode="close_midway"), 1.0, 0.2, 2.0),
    Fault("model: garbage", misbehaves(mode="garbage"), 1.0, 0.2, 2.0),
    Fault("model: wrong count", misbehaves(mode="wrong_count"), 1.0, 0.2, 0.5),
)
