"""What a run of the benchmarks found: the numbers, the ratios, and which targets are met."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from benchmarks.harness.timing import Timing
from benchmarks.scenarios.costs import Costs
from benchmarks.scenarios.keyed_product import ITEMS
from benchmarks.scenarios.many_tasks import ManyTasks
from benchmarks.scenarios.memory import Memory
from benchmarks.systems.catalogue import BARE, CELERY_BATCHES, RECOMMENDED


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach.

    Attributes:
        name: what is measured.
        value: what was found.
        limit: the least that is asked for, or the most where ``at_most``.
    """

    name: str
    value: float
    limit: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(slots=True)
class Report:
    """What a run found.

    Attributes:
        machine: what it ran on.
        timings: every run of every system.
        keyed: the keyed workload.
        memory: what buffered messages take in Redis.
        costs: commits and ticks by open windows.
        many: what many quiet tasks cost.
        problems: what failed, one text each; empty when every result was right.
    """

    machine: dict[str, str] = field(default_factory=dict)
    timings: list[Timing] = field(default_factory=list)
    keyed: Timing | None = None
    memory: Memory | None = None
    costs: Costs | None = None
    many: ManyTasks | None = None
    problems: list[str] = field(default_factory=list)

    def best(self) -> dict[str, Timing]:
        """The fastest run of each system, in the order in which they ran first."""
        by_system: dict[str, list[Timing]] = defaultdict(list)
        for timing in self.timings:
            by_system[timing.system].append(timing)
        return {
            name: max(timings, key=lambda timing: timing.per_s)
            for name, timings in by_system.items()
        }

    def rates(self, system: str) -> list[float]:
        """Messages per second of every run of a system."""
        return [timing.per_s for timing in self.timings if timing.system == system]

    def ratio(self, system: str, base: str) -> float | None:
        """How many times as fast a system was as another one; None where one did not run."""
        best = self.best()
        if system not in best or base not in best:
            return None
        return best[system].per_s / best[base].per_s

    def targets(self) -> list[Target]:
        """The targets for which there are numbers."""
        name = RECOMMENDED.name
        found = []
        for base, limit in ((BARE.name, 0.6), (CELERY_BATCHES.name, 12.0)):
            if (ratio := self.ratio(name, base)) is not None:
                found.append(Target(f"{name} / {base}", ratio, limit))
        if (memory := self.memory) is not None:
            text = "Redis bytes for a buffered message"
            found.append(Target(text, memory.redis_bytes, memory.limit_bytes, at_most=True))
        if (many := self.many) is not None:
            text = f"{many.tasks:,} tasks in one ingestor"
            found.append(Target(f"{text}: % of a core, idle", 100 * many.idle_cpu, 5, at_most=True))
            found.append(Target(f"{text}: seconds to start", many.start_s, 20, at_most=True))
        if self.keyed is not None:
            windows = self.keyed.messages / ITEMS
            text = "Celery messages for a keyed window"
            found.append(Target(text, self.keyed.hints / windows, 0.1, at_most=True))
        return found
