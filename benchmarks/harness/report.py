"""What a run of the benchmarks found: the numbers, the ratios, and which targets are met."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from benchmarks.harness.targets import Target, targets_of
from benchmarks.harness.timing import Timing
from benchmarks.scenarios.closing_commit import ClosingCommits
from benchmarks.scenarios.costs import Costs
from benchmarks.scenarios.many_tasks import ManyTasks
from benchmarks.scenarios.memory import Memory
from benchmarks.scenarios.million_windows import MillionWindows
from benchmarks.systems.catalogue import KEYED


@dataclass(slots=True)
class Report:
    """What a run found.

    Attributes:
        machine: what it ran on.
        compared: the names of the systems of each scenario.
        rounds: the timings of each round, by system.
        memory: what buffered messages take in Redis.
        costs: commits and ticks by open windows.
        closing: commits in which windows of all keys close.
        many: what many quiet tasks cost.
        million: what a million open windows cost.
        left_out: what could not be measured, and why, one text each.
        problems: what failed, one text each; empty when every result was right.
    """

    machine: dict[str, str] = field(default_factory=dict)
    compared: dict[str, list[str]] = field(default_factory=dict)
    rounds: list[dict[str, Timing]] = field(default_factory=list)
    memory: Memory | None = None
    costs: Costs | None = None
    closing: ClosingCommits | None = None
    many: ManyTasks | None = None
    million: MillionWindows | None = None
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def timings(self) -> dict[str, list[Timing]]:
        """Every run of each system, the fastest first."""
        by_system: dict[str, list[Timing]] = defaultdict(list)
        for timings in self.rounds:
            for timing in timings.values():
                by_system[timing.system].append(timing)
        return {
            name: sorted(timings, key=lambda timing: -timing.per_s)
            for name, timings in by_system.items()
        }

    def best(self) -> dict[str, Timing]:
        """The fastest run of each system."""
        return {name: timings[0] for name, timings in self.timings().items()}

    @property
    def keyed(self) -> Timing | None:
        """The fastest run of many keys and small windows without sharing."""
        return self.best().get(KEYED.name)

    def rates(self, system: str) -> list[float]:
        """Messages per second of every run of a system, in the order of the rounds."""
        return [timings[system].per_s for timings in self.rounds if system in timings]

    def ratio(self, system: str, base: str) -> float | None:
        """How many times as fast a system was as another one: the median of the rounds in which
        both ran; None where there is none."""
        ratios = [
            timings[system].per_s / timings[base].per_s
            for timings in self.rounds
            if system in timings and base in timings
        ]
        return median(ratios) if ratios else None

    def targets(self) -> list[Target]:
        """The targets for which there are numbers."""
        found = targets_of(self.rounds)
        if (memory := self.memory) is not None:
            text = "Redis bytes for a buffered message"
            found.append(Target(text, [memory.redis_bytes], memory.limit_bytes, at_most=True))
        if (many := self.many) is not None:
            text = f"{many.tasks:,} tasks in one ingestor"
            idle, start = [100 * many.idle_cpu], [many.start_s]
            found.append(Target(f"{text}: % of a core, idle", idle, 5, at_most=True))
            found.append(Target(f"{text}: seconds to start", start, 20, at_most=True))
        if (million := self.million) is not None:
            text = f"{million.windows:,} open windows"
            taken, shown = [million.take_over_s], [million.snapshot_ms]
            found.append(Target(f"{text}: seconds to take over", taken, 7, at_most=True))
            found.append(Target(f"{text}: ms of a scrape", shown, 1000, at_most=True))
        if (closing := self.closing) is not None:
            text = "ms in Redis for a commit that closes 500 windows"
            found.append(Target(text, closing.longest_ms, 5, at_most=True))
        return found
