"""The optimisation: the best settings within bounds, by the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize

from sinfer.products.soe.reactor import OUTPUTS, RANGES, SETTINGS
from sinfer.products.soe.surrogate import Array, Surrogate

Status = Literal["converged", "infeasible", "not_converged"]

_TOLERANCE = 1e-4
"""By how much of a bound's width an output may miss it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is asked for.

    Attributes:
        objective: the output to bring up, or down with ``maximize=False``.
        bounds: low and high of each setting, in which to search, and of the outputs that have to
            stay within some.
        disturbances: their values, in the order of ``DISTURBANCES``.
        current: the settings as they are, in the order of ``SETTINGS``.
    """

    objective: str
    maximize: bool
    bounds: Mapping[str, tuple[float, float]]
    disturbances: Sequence[float]
    current: Sequence[float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found.

    Attributes:
        status: ``infeasible`` when no settings keep to the bounds; ``not_converged`` when the
            search ended without a result.
        reason: why there are no set-points.
        setpoints: the best settings; none unless converged.
        objective: what they lead to; None unless converged.
    """

    status: Status
    reason: str = ""
    setpoints: dict[str, float] = field(default_factory=dict)
    objective: float | None = None


def optimize(surrogate: Surrogate, problem: Problem, max_iterations: int = 100) -> Answer:
    """Search from where the unit is, from the middle and from the corners; the best counts.

    The surrogate is not convex: from one place alone the search may end in a valley.
    """
    box = {name: _within_range(name, problem.bounds[name]) for name in SETTINGS}
    for name, (low, high) in box.items():
        if low > high:
            given, known = problem.bounds[name], RANGES[name]
            return Answer("infeasible", f"{name}: the model knows {known}, not {given}")
    low, high = np.array([box[name] for name in SETTINGS]).T
    width = high - low

    def outputs(place: Array) -> Array:
        """Of a place in the box, whose sides are 1 long, so that all steps are of a size."""
        return surrogate.predict(np.append(low + place * width, problem.disturbances))

    aim = OUTPUTS.index(problem.objective)
    sign = -1.0 if problem.maximize else 1.0
    limits = [(OUTPUTS.index(n), *problem.bounds[n]) for n in OUTPUTS if n in problem.bounds]

    def room(place: Array) -> Array:
        """How far each limited output is from its limits, in widths of its bounds."""
        found = outputs(place)
        sides = [((found[n] - lo) / (hi - lo), (hi - found[n]) / (hi - lo)) for n, lo, hi in limits]
        return np.array(sides).ravel()

    def excess(place: Array) -> float:
        return float(np.square(np.minimum(room(place), 0)).sum())

    options: dict[str, Any] = {"bounds": [(0.0, 1.0)] * len(SETTINGS)}
    starts = _starts((np.asarray(problem.current) - low) / np.where(width > 0, width, 1))
    found = [
        minimize(
            lambda place: sign * outputs(place)[aim],
            start,
            method="SLSQP",
            constraints=[{"type": "ineq", "fun": room}] if limits else (),
            options={"maxiter": max_iterations},
            **options,
        )
        for start in starts
    ]
    good = [r for r in found if r.success and all(room(r.x) >= -_TOLERANCE)]
    if good:
        best = min(good, key=lambda result: result.fun).x
        chosen = np.clip(low + best * width, low, high)  # rounding must not leave the bounds
        settings = dict(zip(SETTINGS, chosen.tolist(), strict=True))
        return Answer("converged", "", settings, float(outputs(best)[aim]))
    closest = min(minimize(excess, start, method="L-BFGS-B", **options).fun for start in starts)
    if closest > _TOLERANCE**2:
        names = ", ".join(OUTPUTS[number] for number, *_ in limits)
        return Answer("infeasible", f"no settings within their bounds keep {names} within theirs")
    return Answer("not_converged", f"after {max_iterations} iterations: {found[0].message}")


def _within_range(name: str, bounds: tuple[float, float]) -> tuple[float, float]:
    """The part of the bounds in which the surrogate holds."""
    return max(bounds[0], RANGES[name][0]), min(bounds[1], RANGES[name][1])


def _starts(current: Array) -> list[Array]:
    corners = [np.array(corner) for corner in product((0.1, 0.9), repeat=len(SETTINGS))]
    return [np.clip(current, 0, 1), np.full(len(SETTINGS), 0.5), *corners]
