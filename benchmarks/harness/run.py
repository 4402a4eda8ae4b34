"""The course of a run: every system in turn, some rounds of it, then the other measurements."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Awaitable, Callable, Collection
from importlib.util import find_spec
from typing import TypeVar

from benchmarks.harness.machine import machine
from benchmarks.harness.report import Report
from benchmarks.harness.system import System
from benchmarks.harness.timing import Timing, time_system
from benchmarks.scenarios.closing_commit import measure_closing_commits
from benchmarks.scenarios.costs import measure_costs
from benchmarks.scenarios.many_tasks import measure_many_tasks
from benchmarks.scenarios.memory import measure_memory
from benchmarks.scenarios.million_windows import measure_million_windows
from benchmarks.scenarios.scenario import SCENARIOS, Scenario
from benchmarks.scenarios.workload import WARM_UP, Workload, make_workload
from benchmarks.systems.catalogue import KEYED_SHARED, MANY_KEYS
from sinfer.errors import SinferError
from sinfer.inference.base import InferenceConfig

MEMORY_NAME, COSTS_NAME, CLOSING_NAME = "memory", "open-windows", "closing-commit"
MANY_NAME, MILLION_NAME = "many-tasks", "million-windows"
OTHERS = (MEMORY_NAME, COSTS_NAME, CLOSING_NAME, MANY_NAME, MILLION_NAME)
"""What is measured once and by itself."""
NAMES = (
    *(scenario.name for scenario in SCENARIOS),
    *(system.name for scenario in SCENARIOS for system in scenario.systems),
    *OTHERS,
)
"""Everything that can be measured: scenarios, single systems of them, and what is by itself."""

T = TypeVar("T")
Tell = Callable[[str], None]


async def run(
    *,
    messages: int,
    rounds: int,
    only: Collection[str],
    old: System | None = None,
    limit_s: float,
    tell: Tell,
) -> Report:
    """Measure.

    Rounds go through all systems of all scenarios, so that a machine that is busy for a while
    disturbs all alike.

    Args:
        messages: in the timed part of a system, less for slow ones.
        rounds: how often each system runs.
        only: what to measure.
        old: the keyed system as it was at another commit, to run with the others of its scenario.
        limit_s: no further round begins that would end later than this.
        tell: is called with a line for each thing that is done.
    """
    started = time.monotonic()
    report = Report(machine())
    chosen = list(_chosen(report, only, old))
    parts = [scenario.part(system, messages) for scenario, system in chosen]
    workload = make_workload(max(messages, WARM_UP, *parts, 0))
    await _measure_rest(report, workload.first(messages), only, tell)
    for number in range(1, rounds + 1 if chosen else 1):
        round_started = time.monotonic()
        timings: dict[str, Timing] = {}
        report.rounds.append(timings)
        for (scenario, system), part in zip(chosen, parts, strict=True):
            timing = await _time(report, system, workload.first(part))
            if timing is not None:
                timings[system.name] = timing
                tell(f"{scenario.name}: {system.name}, round {number}: {_told(timing)}")
        now = time.monotonic()
        if number < rounds and now - started + (now - round_started) > limit_s:
            tell(f"no time is left for round {number + 1}")
            break
    return report


def _chosen(
    report: Report, only: Collection[str], old: System | None
) -> list[tuple[Scenario, System]]:
    """What runs in each round; what sinfer cannot do yet is left out and named."""
    chosen = [
        (scenario, system)
        for scenario in SCENARIOS
        for system in scenario.systems
        if scenario.name in only or system.name in only
    ]
    beside = [place for place, (_, system) in enumerate(chosen) if system in MANY_KEYS]
    if old is not None and beside:
        chosen.insert(beside[-1] + 1, (chosen[beside[-1]][0], old))
    missing = {system.name: _missing(system) for _, system in chosen}
    report.left_out += [f"{name}: {text}" for name, text in missing.items() if text]
    chosen = [(scenario, system) for scenario, system in chosen if not missing[system.name]]
    for scenario, system in chosen:
        report.compared.setdefault(scenario.name, []).append(system.name)
    return chosen


def _missing(system: System) -> str:
    """Why a system cannot run here; empty where it can."""
    if system.package and find_spec(system.package) is None:
        return f"{system.package} is not installed; make bench does that"
    if system is KEYED_SHARED and "share_calls" not in InferenceConfig.model_fields:
        return "this sinfer has no inference.share_calls"
    return ""


def _told(timing: Timing) -> str:
    return f"{timing.per_s:,.0f} messages/s"


async def _measure_rest(
    report: Report, workload: Workload, only: Collection[str], tell: Tell
) -> None:
    if MEMORY_NAME in only:
        tell("memory of buffered messages")
        report.memory = await _tried(report, MEMORY_NAME, measure_memory(workload))
    if COSTS_NAME in only:
        tell("commits and ticks with many open windows")
        report.costs = await _tried(report, COSTS_NAME, measure_costs())
    if CLOSING_NAME in only:
        tell("commits in which windows of all keys close")
        report.closing = await _tried(report, CLOSING_NAME, measure_closing_commits())
    if MILLION_NAME in only:
        tell("a partition with a million open windows")
        report.million = await _tried(report, MILLION_NAME, measure_million_windows())
    if MANY_NAME in only:
        tell("many quiet tasks")
        report.many = await _tried(report, MANY_NAME, measure_many_tasks())


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
