"""Who is missing for a product to get anywhere, and what to type: told by all who notice."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from sinfer.store.boards.running_processes import Presence, Present
from sinfer.types.queues import TICK_QUEUE, product_queue

_TICK_LATE_MS = 10_000
"""Ticks that stay away for so long are told of."""

BUSY_MS = 60_000
"""So long a window may wait though workers listen, which may be busy; then it is told."""

_MOST_NAMED = 3


def worker_command(modules: Sequence[str], queues: Iterable[str] = ()) -> str:
    """What starts a worker.

    Args:
        modules: for ``SINFER_PRODUCTS``; none where the product is installed.
        queues: for ``-Q``; all by default.
    """
    chosen = ",".join(queues)
    option = f" -Q {shlex.quote(chosen)}" if chosen else ""
    return f"{_products(modules)}celery -A sinfer.tasks worker{option}"


def ingest_command(product: str, modules: Sequence[str]) -> str:
    """What starts an ingestor; the arguments are as above."""
    return f"{_products(modules)}sinfer ingest --product {shlex.quote(product)}"


def _products(modules: Sequence[str]) -> str:
    return f"SINFER_PRODUCTS={shlex.quote(','.join(modules))} " if modules else ""


BEAT_COMMAND = "celery -A beat_schedule beat"


def listening(product: str, present: Present) -> list[Presence]:
    """The worker processes that take the windows of a product."""
    queue = product_queue(product)
    return [
        found
        for found in present.workers
        if queue in found.queues and product in found.products and not found.deaf
    ]


def missing_worker(product: str, present: Present, modules: Sequence[str] = ()) -> str:
    """Why no worker takes the windows of a product, and the remedy; empty when one does.

    Args:
        product: its name.
        present: who is there.
        modules: what ``SINFER_PRODUCTS`` has to be for a worker to find it.
    """
    if listening(product, present):
        return ""
    queue, workers = product_queue(product), present.workers
    remedy = worker_command(modules)
    if not workers:
        return f"no worker runs; in another terminal: {remedy}"
    if deaf := [w for w in workers if w.deaf and product in w.products]:
        return f"no worker listens for it: {_names(deaf)}: {deaf[0].deaf}"
    if elsewhere := [w for w in workers if product in w.products]:
        return (
            f"no worker listens for it: {_names(elsewhere)} listens to"
            f" {', '.join(elsewhere[0].queues)} only (-Q); leave -Q out, or start one more:"
            f" {worker_command(modules, [queue])}"
        )
    for worker in workers:
        for reference, problem in worker.broken.items():
            if product in (reference, reference.rpartition(".")[2]) or reference in modules:
                return f"no worker listens for it: {worker.name} could not load it: {problem}"
    known = ", ".join(dict.fromkeys(name for w in workers for name in w.products)) or "no product"
    return (
        f"no worker listens for it: {_names(workers)} knows {known}; in another terminal: {remedy}"
    )


def missing_beat(present: Present, tick_s: float, modules: Sequence[str] = ()) -> str:
    """Why no ticks come through, and the remedy; empty when they do.

    Args:
        present: who is there.
        tick_s: how often they should come, seconds.
        modules: as above.
    """
    late_ms = max(_TICK_LATE_MS, round(3000 * tick_s))
    if present.tick_ms is not None and present.tick_ms < late_ms:
        return ""
    if not present.beats:
        return (
            "no beat runs: windows do not close by time, and nothing is tried again; in another"
            f" terminal: {BEAT_COMMAND}"
        )
    workers = [w for w in present.workers if not w.deaf]
    takers = [w for w in workers if TICK_QUEUE in w.queues]
    if workers and not takers:
        return (
            f"no worker takes beat's ticks: {_names(workers)} listens to"
            f" {', '.join(workers[0].queues)} only (-Q); leave -Q out, or start one more:"
            f" {worker_command(modules, [TICK_QUEUE])}"
        )
    if not takers:
        return ""  # without workers beat can do nothing, and that is told already
    since = "yet" if present.tick_ms is None else f"for {present.tick_ms // 1000} s"
    theirs, ours = present.beats[0].broker, takers[0].broker
    why = (
        "see what its log and that of the workers say"
        if theirs == ours
        else f"its broker is {theirs}, that of {takers[0].name} is {ours} (SINFER_BROKER_URL)"
    )
    return f"beat runs, and no tick of it has come through {since}: {why}"


def _names(workers: Iterable[Presence]) -> str:
    names = list(dict.fromkeys(worker.name for worker in workers))
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
