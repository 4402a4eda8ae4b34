"""The scenarios that systems are compared at, and how many messages each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.system import System
from benchmarks.harness.timing import SETTLE_S
from benchmarks.scenarios import keyed_product
from benchmarks.systems import catalogue


@dataclass(frozen=True, slots=True)
class Scenario:
    """What some systems are compared at.

    Attributes:
        name: for ``--only``.
        title: for the report.
        systems: in the order in which they run.
        messages: how many there are when ``--messages`` says so many.
    """

    name: str
    title: str
    systems: tuple[System, ...]
    messages: Callable[[int], int]

    def part(self, system: System, messages: int) -> int:
        """How many messages a system gets: whole windows."""
        wanted = self.messages(messages) * system.share
        return max(1, round(wanted / system.items)) * system.items


def _steady(messages: int) -> int:
    """Those of some seconds that do not count, and of up to ten that do."""
    return round(catalogue.RATE * SETTLE_S) + min(messages, round(10 * catalogue.RATE))


SCENARIOS = (
    Scenario(
        "windows-of-100", "windows of 100, no keys", catalogue.WINDOWS_OF_100, lambda count: count
    ),
    Scenario(
        "keyed",
        f"many keys, windows of {keyed_product.ITEMS}",
        catalogue.MANY_KEYS,
        lambda count: keyed_product.messages(),
    ),
    Scenario(
        "latency",
        f"windows of {catalogue.FEW} at {catalogue.RATE:,.0f} messages/s",
        catalogue.STEADY,
        _steady,
    ),
    Scenario(
        "slow-model",
        f"windows of {catalogue.FEW}, a model that takes {catalogue.MODEL_MS:.0f} ms",
        catalogue.SLOW_MODEL,
        lambda count: max(1, count * 2 // 5),
    ),
)
