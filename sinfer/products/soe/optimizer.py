"""The optimisation: the best settings within bounds, by the surrogate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from sinfer.products.soe.reactor import OUTPUTS, RANGES, SETTINGS
from sinfer.products.soe.surrogate import Array, Surrogate

Status = Literal["converged", "infeasible", "not_converged"]

_TOLERANCE = 1e-4
"""By how much of its bounds' width an output may miss them."""
_GRID = 15
"""Places along each side of the grid."""
_SIDES = [(0.0, 1.0)] * len(SETTINGS)


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
    """Search from the best place of a coarse grid, and from where the unit is; the better counts.

    The surrogate is not convex: from one place alone the search may end in a valley.
    """
    box = {name: _within_range(name, problem.bounds[name]) for name in SETTINGS}
    for name, (low, high) in box.items():
        if low > high:
            given, known = problem.bounds[name], RANGES[name]
            return Answer("infeasible", f"{name}: the model knows {known}, not {given}")
    search = _Search(surrogate, problem, *np.array([box[name] for name in SETTINGS]).T)
    sides = np.meshgrid(*[np.linspace(0, 1, _GRID)] * len(SETTINGS))
    grid = np.stack([side.ravel() for side in sides], axis=-1)
    excess = search.excess(grid)
    allowed = grid[excess == 0]
    if len(allowed):
        first = allowed[search.cost(allowed).argmin()]
    else:
        closest = minimize(search.excess, grid[excess.argmin()], method="L-BFGS-B", bounds=_SIDES)
        if closest.fun > _TOLERANCE**2:
            reason = f"no settings within bounds keep {', '.join(search.limited)} within theirs"
            return Answer("infeasible", reason)
        first = closest.x
    found = [
        minimize(
            search.cost,
            start,
            method="SLSQP",
            bounds=_SIDES,
            constraints=[{"type": "ineq", "fun": search.room}] if search.limited else (),
            options={"maxiter": max_iterations},
        )
        for start in (first, search.place_of(problem.current))
    ]
    good = [r for r in found if r.success and search.excess(r.x) <= _TOLERANCE**2]
    if not good:
        reason = f"after {found[0].nit} iterations: {found[0].message}"
        return Answer("not_converged", reason)
    best = min(good, key=lambda result: float(result.fun)).x
    settings = dict(zip(SETTINGS, search.settings_at(best).tolist(), strict=True))
    return Answer("converged", "", settings, float(search.sign * search.cost(best)))


class _Search:
    """A problem as the search sees it: places in a box whose sides are 1 long.

    So all steps are of a size, whatever the units are. Functions take one place or many.

    Attributes:
        limited: outputs that have bounds.
        sign: of the objective in the cost, which is always brought down.
    """

    def __init__(self, surrogate: Surrogate, problem: Problem, low: Array, high: Array) -> None:
        self._surrogate = surrogate
        self._disturbances = np.asarray(problem.disturbances)
        self._low, self._high = low, high
        self._aim = OUTPUTS.index(problem.objective)
        self.sign = -1.0 if problem.maximize else 1.0
        self.limited = [name for name in OUTPUTS if name in problem.bounds]
        self._places = [OUTPUTS.index(name) for name in self.limited]
        limits = [problem.bounds[name] for name in self.limited]
        self._least, self._most = np.array(limits).reshape(-1, 2).T

    def settings_at(self, place: Array) -> Array:
        settings = self._low + place * (self._high - self._low)
        return np.clip(settings, self._low, self._high)  # rounding must not leave the bounds

    def place_of(self, settings: Sequence[float]) -> Array:
        """The nearest place to settings, which may be out of bounds."""
        width = self._high - self._low
        place = (np.asarray(settings) - self._low) / np.where(width > 0, width, 1)
        return np.clip(place, 0, 1)

    def _outputs(self, place: Array) -> Array:
        settings = self.settings_at(place)
        disturbances = np.broadcast_to(
            self._disturbances, (*settings.shape[:-1], len(self._disturbances))
        )
        return self._surrogate.predict(np.concatenate([settings, disturbances], axis=-1))

    def cost(self, place: Array) -> Array:
        """What is to be brought down."""
        cost: Array = self.sign * self._outputs(place)[..., self._aim]
        return cost

    def room(self, place: Array) -> Array:
        """How far each limited output is from each of its limits, in widths of its bounds."""
        found = self._outputs(place)[..., self._places]
        both = np.concatenate([found - self._least, self._most - found], axis=-1)
        room: Array = both / np.tile(self._most - self._least, 2)
        return room

    def excess(self, place: Array) -> Array:
        """By how much limits are exceeded: the sum of squares, 0 where none is."""
        excess: Array = np.square(np.minimum(self.room(place), 0)).sum(axis=-1)
        return excess


def _within_range(name: str, bounds: tuple[float, float]) -> tuple[float, float]:
    """The part of the bounds in which the surrogate holds."""
    return max(bounds[0], RANGES[name][0]), min(bounds[1], RANGES[name][1])
