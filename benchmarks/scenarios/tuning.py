"""How settings change the throughput; docs/tuning.md has a run.

``python -m benchmarks.scenarios.tuning``

Each variant differs from the first of its group in what its name says. Rounds go through all of
them, and the best round counts, as in ``harness/run.py``. On a machine that does other work as
well, the processor time that a message costs says more than the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from redis import Redis

from benchmarks.harness.machine import machine
from benchmarks.harness.system import System
from benchmarks.harness.timing import Timing, time_system
from benchmarks.scenarios.product import CHANGES_VARIABLE
from benchmarks.scenarios.workload import Workload, make_workload
from benchmarks.systems.sinfer import sinfer_system
from sinfer.embedded.services import Place, Service
from sinfer.errors import SinferError

MESSAGES = 20_000

Change = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One set-up.

    Attributes:
        group: what it is compared within.
        name: how it differs.
        task: changes of the task's settings.
        concurrency, options: of the worker.
        always: whether Redis syncs its file at each write (``appendfsync always``).
        messages: how many it gets.
    """

    group: str
    name: str
    task: Change = field(default_factory=dict)
    concurrency: int = 2
    options: tuple[str, ...] = ()
    always: bool = False
    messages: int = MESSAGES

    def system(self) -> System:
        """With the worker that it asks for."""
        made = sinfer_system(self.name, *self.options, concurrency=self.concurrency)

        def services(place: Place) -> list[Service]:
            if self.always:
                with Redis.from_url(place.environment["SINFER_REDIS_URL"]) as redis:
                    redis.config_set("appendfsync", "always")
            return made.services(place)

        return System(self.name, services)


def _count(count: int) -> Change:
    return {"window": {"type": "count", "count": count}}


def _model(name: str, **more: Any) -> Change:
    call = f"benchmarks.scenarios.tuned_models:{name}"
    return {"inference": {"type": "python", "call": call, **more}}


_DURABLE = {"source": {"durable": "tuning"}}
_DONE = {"source": {"durable": "tuning", "ack": "done"}}
_THREADS = ("--pool", "threads")

VARIANTS = [
    Variant("messages in a window", "100", _count(100)),
    Variant("messages in a window", "1", _count(1), messages=4_000),
    Variant("messages in a window", "10", _count(10), messages=10_000),
    Variant("messages in a window", "1000", _count(1000)),
    Variant("worker", "-c 2"),
    Variant("worker", "-c 1", concurrency=1),
    Variant("worker", "-c 4", concurrency=4),
    Variant("worker", "threads, -c 8", concurrency=8, options=_THREADS),
    Variant("worker, 5 ms of Python for each window", "-c 2", _model("busy")),
    Variant("worker, 5 ms of Python for each window", "-c 1", _model("busy"), concurrency=1),
    Variant(
        "worker, 5 ms of Python for each window", "threads, -c 8", _model("busy"),
        concurrency=8, options=_THREADS,
    ),
    Variant("model that takes 50 ms", "max_concurrency: 8", _model("slow")),
    Variant(
        "model that takes 50 ms", "max_concurrency: 1", _model("slow", max_concurrency=1),
        messages=8_000,
    ),
    Variant("model that takes 50 ms", "max_concurrency: 32", _model("slow", max_concurrency=32)),
    Variant("windows of 1000", "max_batch: none", _count(1000)),
    Variant(
        "windows of 1000", "max_batch: 100", {**_count(1000), "inference": {"max_batch": 100}}
    ),
    Variant("windows of 1000", "max_batch: 10", {**_count(1000), "inference": {"max_batch": 10}}),
    Variant("reading", "by position"),
    Variant("reading", "durable", _DURABLE),
    Variant("reading", "durable, ack: done", _DONE),
    Variant("reading", "by position, appendfsync always", always=True),
    Variant("reading", "durable, appendfsync always", _DURABLE, always=True),
    Variant("source.batch", "500", {"source": {"batch": 500}}),
    Variant("source.batch", "50", {"source": {"batch": 50}}),
    Variant("source.batch", "5000", {"source": {"batch": 5000}}),
]  # fmt: skip


async def measure(
    chosen: list[Variant], rounds: int, tell: Callable[[str], None]
) -> list[tuple[Variant, list[Timing]]]:
    """The timings of each variant, by round; those that failed are told and left out."""
    workload: Workload = make_workload(max(variant.messages for variant in chosen))
    timings: list[tuple[Variant, list[Timing]]] = [(variant, []) for variant in chosen]
    for _ in range(rounds):
        for variant, found in timings:
            os.environ[CHANGES_VARIABLE] = json.dumps(variant.task)
            try:
                timing = await time_system(variant.system(), workload.first(variant.messages))
            except SinferError as error:
                tell(f"{variant.group}, {variant.name}: {error}")
                continue
            if timing.problem:
                tell(f"{variant.group}, {variant.name}: {timing.problem}")
                continue
            found.append(timing)
            tell(f"{variant.group}, {variant.name}: {timing.per_s:,.0f} messages/s")
    return timings


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scenarios.tuning", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", metavar="GROUP", help="part of a group's name")
    arguments = parser.parse_args()
    chosen = [
        variant
        for variant in VARIANTS
        if not arguments.only or any(part in variant.group for part in arguments.only)
    ]
    if not chosen:
        parser.error("no group has such a name")

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    timings = asyncio.run(measure(chosen, arguments.rounds, tell))
    for name, value in machine().items():
        print(f"{name}: {value}")
    print("| group | variant | messages/s | us of processor a message |")
    for variant, found in timings:
        best = max((timing.per_s for timing in found), default=0.0)
        cost = min(map(_cost_us, found), default=0.0)
        print(f"| {variant.group} | {variant.name} | {best:,.0f} | {cost:,.0f} |")
    return 0


def _cost_us(timing: Timing) -> float:
    """Processor time of all processes but the model's, for each message."""
    return sum(us for name, us in timing.cpu_us.items() if name != "model-server")


if __name__ == "__main__":
    sys.exit(main())
