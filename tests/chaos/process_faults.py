"""Faults of sinfer's own processes: killed, frozen for longer than a lease, told to end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil

from sinfer.embedded.services import Service
from tests.chaos.faults import Fault, World
from tests.chaos.site import LEASE_S


@asynccontextmanager
async def _held_down(world: World, service: Service) -> AsyncIterator[None]:
    """Nobody starts the process inside the block; afterwards it is started again."""
    world.site.held_down.add(service.name)
    try:
        yield
    finally:
        world.site.let_up(service)


@asynccontextmanager
async def killed(world: World) -> AsyncIterator[str]:
    """SIGKILL to a process with all its children; started again afterwards."""
    service = world.random.choice(world.site.services)
    async with _held_down(world, service):
        await asyncio.to_thread(service.process.kill)
        yield service.name


@asynccontextmanager
async def orphaned(world: World) -> AsyncIterator[str]:
    """SIGKILL to the parent process of a worker alone: its children live on for a moment."""
    service = world.random.choice(_of_kind(world, "worker"))
    async with _held_down(world, service):
        service.process.signal(signal.SIGKILL)
        await asyncio.to_thread(service.process.wait, 10)
        try:
            yield service.name
        finally:
            await asyncio.to_thread(service.process.kill)


@asynccontextmanager
async def child_killed(world: World) -> AsyncIterator[str]:
    """SIGKILL to one child of a worker, which makes a new one by itself."""
    service = world.random.choice(_of_kind(world, "worker"))
    children = _children(service)
    if children:
        with suppress(psutil.NoSuchProcess):
            world.random.choice(children).kill()
    yield service.name


@asynccontextmanager
async def terminated(world: World) -> AsyncIterator[str]:
    """SIGTERM, as in a deployment: it hands back what it holds; started again afterwards."""
    service = world.random.choice(world.site.services)
    async with _held_down(world, service):
        await asyncio.to_thread(service.stop, 15.0)
        yield service.name


@asynccontextmanager
async def frozen(world: World) -> AsyncIterator[str]:
    """SIGSTOP to a process with all its children, and SIGCONT afterwards."""
    service = world.random.choice(world.site.services)
    group = service.process.pid
    if service.process.is_running:
        os.killpg(group, signal.SIGSTOP)
    try:
        yield service.name
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)


@asynccontextmanager
async def child_frozen(world: World) -> AsyncIterator[str]:
    """SIGSTOP to one child of a worker, which holds windows, and SIGCONT afterwards."""
    service = world.random.choice(_of_kind(world, "worker"))
    chosen = [world.random.choice(children)] if (children := _children(service)) else []
    with suppress(psutil.NoSuchProcess):
        for child in chosen:
            child.suspend()
    try:
        yield service.name
    finally:
        with suppress(psutil.NoSuchProcess):
            for child in chosen:
                child.resume()


def _of_kind(world: World, kind: str) -> list[Service]:
    return [service for service in world.site.services if service.name.startswith(kind)]


def _children(service: Service) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(service.process.pid).children()
        return sorted(children, key=lambda child: child.pid)
    return []


_PAST_LEASE_S = LEASE_S + 1.0

PROCESS_FAULTS = (
    Fault("kill a process", killed, 3.0, 0.0, 1.0),
    Fault("kill a worker's parent", orphaned, 1.0, 0.0, 1.0),
    Fault("kill a worker's child", child_killed, 2.0),
    Fault("terminate a process", terminated, 1.0, 0.0, 0.5),
    Fault("freeze a process", frozen, 2.0, _PAST_LEASE_S, _PAST_LEASE_S + 2.0),
    Fault("freeze a worker's child", child_frozen, 2.0, _PAST_LEASE_S, _PAST_LEASE_S + 2.0),
)
