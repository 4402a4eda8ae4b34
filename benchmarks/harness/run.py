"""The course of a run: every system in turn, some rounds of it, then the other measurements."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from benchmarks.harness.machine import machine
from benchmarks.harness.report import Report
from benchmarks.harness.system import System
from benchmarks.harness.timing import Timing, time_system
from benchmarks.scenarios import keyed_product
from benchmarks.scenarios.costs import measure_costs
from benchmarks.scenarios.many_tasks import measure_many_tasks
from benchmarks.scenarios.memory import measure_memory
from benchmarks.scenarios.workload import WINDOW, Workload, make_workload
from benchmarks.systems.catalogue import KEYED, SYSTEMS
from sinfer.errors import SinferError

KEYED_NAME, MEMORY_NAME, COSTS_NAME = "keyed", "memory", "open-windows"
MANY_NAME = "many-tasks"
NAMES = (*(system.name for system in SYSTEMS), KEYED_NAME, MEMORY_NAME, COSTS_NAME, MANY_NAME)
"""Everything that can be measured."""

T = TypeVar("T")
Tell = Callable[[str], None]


async def run(
    *, messages: int, rounds: int, only: Collection[str], limit_s: float, tell: Tell
) -> Report:
    """Measure.

    Rounds go through all systems, so that a machine that is busy for a while disturbs all alike.

    Args:
        messages: in the timed part of a system, less for slow ones.
        rounds: how often each system runs.
        only: what to measure.
        limit_s: no further round begins that would end later than this.
        tell: is called with a line for each thing that is done.
    """
    started = time.monotonic()
    report = Report(machine())
    needed = max(messages, keyed_product.MESSAGES if KEYED_NAME in only else 0)
    workload = make_workload(needed)
    await _measure_rest(report, workload, only, tell)
    for number in range(1, rounds + 1):
        round_started = time.monotonic()
        for system in SYSTEMS:
            if system.name in only:
                part = workload.first(_share(messages, system))
                timing = await _time(report, system, part)
                if timing is not None:
                    report.timings.append(timing)
                    tell(f"{system.name}, round {number}: {timing.per_s:,.0f} messages/s")
        now = time.monotonic()
        if number < rounds and now - started + (now - round_started) > limit_s:
            tell(f"no time is left for round {number + 1}")
            break
    return report


async def _measure_rest(
    report: Report, workload: Workload, only: Collection[str], tell: Tell
) -> None:
    if MEMORY_NAME in only:
        tell("memory of buffered messages")
        report.memory = await _tried(report, MEMORY_NAME, measure_memory(workload))
    if COSTS_NAME in only:
        tell("commits and ticks with many open windows")
        report.costs = await _tried(report, COSTS_NAME, measure_costs())
    if MANY_NAME in only:
        tell("many quiet tasks")
        report.many = await _tried(report, MANY_NAME, measure_many_tasks())
    if KEYED_NAME in only:
        tell("many keys and small windows")
        report.keyed = await _time(report, KEYED, workload.first(keyed_product.MESSAGES))


def _share(messages: int, system: System) -> int:
    """How many of the messages a system gets: whole windows."""
    return max(1, round(messages * system.share / WINDOW)) * WINDOW


async def _time(report: Report, system: System, workload: Workload) -> Timing | None:
    timing = await _tried(report, system.name, time_system(system, workload))
    if timing is not None and timing.problem:
        report.problems.append(f"{system.name}: {timing.problem}")
    return timing


async def _tried(report: Report, name: str, measurement: Awaitable[T]) -> T | None:
    """A measurement, or None and a problem in the report."""
    try:
        return await measurement
    except (SinferError, subprocess.SubprocessError) as error:
        report.problems.append(f"{name}: {error}")
        return None
