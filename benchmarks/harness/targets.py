"""The targets: what is asked for, what each round found, and whether that is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import median

from benchmarks.harness.latency import percentile
from benchmarks.harness.system import System
from benchmarks.harness.timing import Timing
from benchmarks.systems import catalogue
from benchmarks.systems.bare import BARE
from benchmarks.systems.celery_batches import CELERY_BATCHES

Round = Mapping[str, Timing]
"""The timings of one round, by system."""
Measure = Callable[[Timing], float]


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach.

    Attributes:
        name: what is measured.
        values: what was found, one a round.
        limit: the least that is asked for, or the most where ``at_most``.
    """

    name: str
    values: Sequence[float]
    limit: float
    at_most: bool = False

    @property
    def value(self) -> float:
        """The median, which counts."""
        return median(self.values)

    @property
    def best(self) -> float:
        return min(self.values) if self.at_most else max(self.values)

    @property
    def worst(self) -> float:
        return max(self.values) if self.at_most else min(self.values)

    @property
    def is_met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def rate(timing: Timing) -> float:
    """Messages per second."""
    return timing.per_s


def own_cpu_us(timing: Timing) -> float:
    """CPU time for a message in what moves messages: neither the servers nor beat."""
    return sum(us for name, us in timing.cpu_us.items() if name in ("bare", "ingest", "worker"))


def targets_of(rounds: Sequence[Round]) -> list[Target]:
    """The targets for which there are numbers."""
    return [
        Target(name, values, limit, at_most)
        for name, values, limit, at_most in (*_ratios(rounds), *_numbers(rounds))
        if values
    ]


Asked = tuple[str, list[float], float, bool]


def _ratios(rounds: Sequence[Round]) -> Iterator[Asked]:
    """Those that compare two systems of the same round."""

    def ratio(system: str, base: str, measure: Measure = rate) -> list[float]:
        pairs = [
            (measure(timings[system]), measure(timings[base]))
            for timings in rounds
            if system in timings and base in timings
        ]
        return [value / other for value, other in pairs if other and not isnan(value / other)]

    def throughput(system: str, base: str, limit: float) -> Asked:
        return f"{system} / {base}", ratio(system, base), limit, False

    shared, unshared = catalogue.KEYED_SHARED.name, catalogue.KEYED.name
    latency, bare_latency = catalogue.LATENCY.name, catalogue.BARE_LATENCY.name
    for system in catalogue.SOURCE_MODES:
        name = system.name
        yield throughput(name, BARE.name, 1.0)
        yield f"CPU of {name} / {BARE.name}", ratio(name, BARE.name, own_cpu_us), 1.2, True
    yield throughput(catalogue.RECOMMENDED.name, CELERY_BATCHES.name, 12.0)
    yield throughput(shared, catalogue.BARE_PACKED.name, 0.5)
    has_old = any(catalogue.OLD_KEYED in timings for timings in rounds)
    yield throughput(shared, catalogue.OLD_KEYED if has_old else unshared, 10.0)
    yield throughput(unshared, catalogue.BARE_KEYED.name, 1.0)
    yield f"{latency} / {bare_latency}: p99", ratio(latency, bare_latency, _p99), 2.0, True
    yield throughput(catalogue.SLOW_MODEL_2.name, catalogue.SLOW_MODEL_1.name, 1.8)


def _numbers(rounds: Sequence[Round]) -> Iterator[Asked]:
    """Those of one system."""

    def of(system: System, measure: Measure) -> list[float]:
        values = (measure(timings[system.name]) for timings in rounds if system.name in timings)
        return [value for value in values if not isnan(value)]

    name = catalogue.LATENCY.name
    yield f"{name}: p50, ms", of(catalogue.LATENCY, _p50), 10.0, True
    name = catalogue.SLOW_MODEL_1.name
    yield f"{name}: calls in flight", of(catalogue.SLOW_MODEL_1, _in_flight), 64.0, False
    items = catalogue.KEYED.items
    hints = of(catalogue.KEYED, lambda timing: timing.hints / (timing.messages / items))
    yield "Celery messages for a keyed window", hints, 0.1, True


def _in_flight(timing: Timing) -> float:
    return timing.in_flight


def _p50(timing: Timing) -> float:
    return percentile(timing.latencies_ms, 0.5)


def _p99(timing: Timing) -> float:
    return percentile(timing.latencies_ms, 0.99)
