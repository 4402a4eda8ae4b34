"""Who works: ingestors, workers and beat, who of them is missing, and what to type then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from sinfer.errors import SinferError, UnavailableError
from sinfer.liveness.absences import (
    BUSY_MS,
    ingest_command,
    listening,
    missing_beat,
    missing_worker,
)
from sinfer.operations.preflight.findings import Finding
from sinfer.operations.status import TaskStanding
from sinfer.products.registry import modules_with
from sinfer.settings import settings
from sinfer.store.boards.ingestors import alive_count
from sinfer.store.boards.running_processes import PresenceBoard, Present
from sinfer.store.connection import Store


async def add_processes(store: Store, tasks: Sequence[TaskStanding]) -> Present:
    """Add to each task who works for it, and who is missing.

    Args:
        store: the window store.
        tasks: all that is known of them else.

    Returns:
        Who is there.
    """
    present = await PresenceBoard(store).read()
    for task in tasks:
        _add(task, present)
        task.trouble += _long_waits(task)
    return present


def _add(task: TaskStanding, present: Present) -> None:
    task.workers = len(listening(task.product, present))
    task.beats = len(present.beats)
    task.missing = [text for _, text in _missing(task.product, present, task.ingestors)]


def _missing(product: str, present: Present, ingestors: int) -> Iterator[tuple[str, str]]:
    """Who is missing for a product, and what to type, by the kind of process."""
    modules = modules_with(product, settings().products)
    if text := missing_worker(product, present, modules):
        yield "workers", text
    if text := missing_beat(present, settings().tick.total_seconds()):
        yield "beat", text
    if not ingestors:
        command = ingest_command(product, modules)
        yield "ingestors", f"no ingestor is alive; in another terminal: {command}"


def _long_waits(task: TaskStanding) -> Iterator[str]:
    """Windows that wait though workers listen, and nothing that is known of keeps them."""
    if not task.workers or task.paused:
        return
    for partition in task.partitions:
        if partition.waits_ms > BUSY_MS and not partition.away:
            yield (
                f"{partition.scope.partition}: {partition.waiting} closed windows wait, the first"
                f" for {partition.waits_ms // 1000} s, though {task.workers} worker processes"
                " listen: they are busy or held up; start more, or see what their logs say"
            )


async def without_tasks(store: Store, products: Iterable[str]) -> list[TaskStanding]:
    """Products of which the store knows no task yet, as far as anyone is missing for them.

    Args:
        store: the window store.
        products: their names.
    """
    present, now_ms = await PresenceBoard(store).read(), await store.now_ms()
    found = []
    for product in sorted(products):
        alive = await alive_count(store, product, now_ms)
        standing = TaskStanding(product, "", ingestors=alive)
        _add(standing, present)
        if standing.missing:
            found.append(standing)
    return found


async def check_processes(store: Store, products: Iterable[str]) -> AsyncIterator[Finding]:
    """Whether ingestors, workers and beat are there for products.

    Nobody has to be, before the start: who is missing is a warning.
    """
    try:
        present, now_ms = await PresenceBoard(store).read(), await store.now_ms()
        for product in sorted(products):
            ingestors = await alive_count(store, product, now_ms)
            missing = dict(_missing(product, present, ingestors))
            there = {
                "ingestors": f"alive: {ingestors}",
                "workers": f"processes that listen: {len(listening(product, present))}",
                "beat": f"running: {len(present.beats)}, and ticks come through",
            }
            for kind, text in there.items():
                if kind in missing:
                    yield Finding(f"{product} {kind}", "warning", missing[kind])
                else:
                    yield Finding(f"{product} {kind}", "ok", text)
    except UnavailableError:
        return  # that is told already
    except SinferError as error:
        yield Finding("processes", "error", str(error))
