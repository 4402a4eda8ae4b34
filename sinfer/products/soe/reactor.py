"""The simulated unit: a stirred reactor in which A becomes B, which sells, and B becomes waste.

Two settings can be chosen, ``temperature`` (K) and ``flow`` (m³/h). Hot and slow makes much of A
become B, and much of B become waste; which settings earn most depends on the ``activity`` of the
catalyst, which nobody chooses. ``impurity`` is the share of waste in the product, ``profit`` what
the unit earns (€/h).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

SETTINGS = ("temperature", "flow")
DISTURBANCES = ("activity",)
OUTPUTS = ("impurity", "profit")
SENSORS = (*SETTINGS, *DISTURBANCES, *OUTPUTS)
"""What a unit measures, once a second."""

RANGES: dict[str, tuple[float, float]] = {
    "temperature": (340.0, 390.0),
    "flow": (0.4, 2.4),
    "activity": (0.3, 1.2),
}
"""Where the simulation holds."""

NOISE = {"temperature": 0.1, "flow": 0.01, "activity": 0.01, "impurity": 0.002, "profit": 0.4}
"""Standard deviation of each sensor."""

_LAG_S = {"temperature": 12.0, "flow": 3.0}
"""Time constants with which the unit follows its settings."""
_FRESH, _SPENT = 1.05, 0.35
_AGEING_S = 100.0
_CATALYST_LASTS_S = 400.0


def steady_state(temperature: float, flow: float, activity: float) -> tuple[float, float]:
    """Impurity and profit once everything has settled.

    Both reactions are of first order, and faster when hot (Arrhenius); the second one more so.
    """
    hotter = 1 / 360 - 1 / temperature
    to_product = 1.5 * activity * math.exp(8_000 * hotter) / flow
    to_waste = 0.12 * math.exp(14_000 * hotter) / flow
    product = to_product / (1 + to_product) / (1 + to_waste)
    feed_and_heat = 20 + 0.15 * (temperature - 300)
    return to_waste / (1 + to_waste), flow * (100 * product - feed_and_heat)


class Reactor:
    """One unit over time. Two with the same seed and the same settings measure the same.

    Args:
        settings: the set-points it starts with; it is in steady state with them.
        seed: of its sensors' noise.

    Attributes:
        setpoints: what its controllers aim at; change them at any time.
    """

    def __init__(self, settings: Mapping[str, float], seed: int = 0) -> None:
        self.setpoints = dict(settings)
        self._actual = dict(settings)
        self._time_s = 0.0
        self._random = random.Random(seed)

    @property
    def activity(self) -> float:
        """Of the catalyst, which ages within minutes here, and is then replaced."""
        age_s = self._time_s % _CATALYST_LASTS_S
        return _SPENT + (_FRESH - _SPENT) * math.exp(-age_s / _AGEING_S)

    def step(self, seconds: float = 1.0) -> None:
        """Let time pass."""
        self._time_s += seconds
        for name, lag_s in _LAG_S.items():
            share = 1 - math.exp(-seconds / lag_s)
            self._actual[name] += share * (self.setpoints[name] - self._actual[name])

    def measure(self) -> dict[str, float]:
        """What each sensor reads now."""
        temperature, flow = self._actual["temperature"], self._actual["flow"]
        impurity, profit = steady_state(temperature, flow, self.activity)
        true = {**self._actual, "activity": self.activity, "impurity": impurity, "profit": profit}
        return {name: round(self._random.gauss(true[name], NOISE[name]), 6) for name in SENSORS}
