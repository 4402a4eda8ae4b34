"""The model ``soe``: from a window of readings and bounds to the best set-points.

Inputs, outputs and parameters are those of ``METADATA`` and ``infer``; the product's pipeline is
the other side of it. Any other server that takes and gives the same can stand in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sinfer.embedded.example_model import BadRequestError
from sinfer.embedded.v2_app import Tensor
from sinfer.products.soe.optimizer import Answer, Problem, optimize
from sinfer.products.soe.reactor import DISTURBANCES, OUTPUTS, RANGES, SENSORS, SETTINGS
from sinfer.products.soe.surrogate import Array, fitted_surrogate

_TREND_S = 30
"""How far back a trend is followed: long enough to see it in the noise, and short enough for what
bends to look straight."""
_FEWEST_FOR_TREND = 15
"""Readings; of fewer the mean counts, because a trend would be noise."""

METADATA: dict[str, Any] = {
    "name": "soe",
    "versions": ["1"],
    "platform": "scipy",
    "inputs": [
        {"name": "sensors", "datatype": "BYTES", "shape": [-1]},
        {"name": "values", "datatype": "FP64", "shape": [-1, -1]},
        {"name": "known", "datatype": "BOOL", "shape": [-1, -1]},
        {"name": "bounded", "datatype": "BYTES", "shape": [-1]},
        {"name": "bounds", "datatype": "FP64", "shape": [-1, 2]},
    ],
    "outputs": [
        {"name": "status", "datatype": "BYTES", "shape": [1]},
        {"name": "reason", "datatype": "BYTES", "shape": [1]},
        {"name": "names", "datatype": "BYTES", "shape": [-1]},
        {"name": "setpoints", "datatype": "FP64", "shape": [-1]},
        {"name": "objective", "datatype": "FP64", "shape": [-1]},
    ],
}


class SoeModel:
    """Finds set-points for the reactor.

    Args:
        max_iterations: of one search.
    """

    metadata = METADATA

    def __init__(self, max_iterations: int = 100) -> None:
        self._surrogate = fitted_surrogate()
        self._max_iterations = max_iterations

    def infer(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[Tensor]:
        """Answer one window.

        Args:
            inputs: ``values`` has a row for each of ``sensors`` and a column for each second;
                ``known`` tells which of them were measured, not filled in. ``bounds`` has low and
                high of each of ``bounded``.
            parameters: ``objective``, the output to optimize; ``sense``, ``maximize`` or
                ``minimize``; ``horizon``, seconds for which the set-points have to be good.

        Raises:
            BadRequestError: the window cannot be of this plant, or the bounds make no sense.
        """
        window = _Window(inputs)
        objective, sense, horizon_s = _asked(parameters)
        bounds = _bounds(inputs)
        needed = [*SETTINGS, *DISTURBANCES]
        if stale := [name for name in needed if not window.known[name][-1]]:
            answer = Answer("not_converged", f"stale: {', '.join(stale)}")
        else:
            problem = Problem(
                objective,
                sense == "maximize",
                bounds,
                # In the middle of the horizon: what is right there is right on average.
                [window.expected(name, horizon_s / 2) for name in DISTURBANCES],
                [window.values[name][-1] for name in SETTINGS],
            )
            answer = optimize(self._surrogate, problem, self._max_iterations)
        return self._tensors(answer, window, objective)

    def _tensors(self, answer: Answer, window: _Window, objective: str) -> list[Tensor]:
        predicted = []
        if answer.objective is not None:
            predicted = [answer.objective + self._error(window, objective)]
        setpoints = answer.setpoints
        return [
            Tensor("status", "BYTES", [1], [answer.status]),
            Tensor("reason", "BYTES", [1], [answer.reason]),
            Tensor("names", "BYTES", [len(setpoints)], list(setpoints)),
            Tensor("setpoints", "FP64", [len(setpoints)], list(setpoints.values())),
            Tensor("objective", "FP64", [len(predicted)], predicted),
        ]

    def _error(self, window: _Window, output: str) -> float:
        """By how much the surrogate was wrong in this window: the unit is not the simulation."""
        names = [*SETTINGS, *DISTURBANCES, output]
        known = np.logical_and.reduce([window.known[name] for name in names])
        if not known.any():
            return 0.0
        *inputs, measured = (window.values[name][known] for name in names)
        computed = self._surrogate.predict(np.stack(inputs, axis=-1))[:, OUTPUTS.index(output)]
        return float(np.median(measured - computed))


class _Window:
    """Readings by sensor."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        try:
            names = inputs["sensors"]
            values = np.array(inputs["values"], dtype=float)
            known = np.array(inputs["known"], dtype=bool)
        except KeyError as error:
            raise BadRequestError(f"there is no input {error}") from None
        except (TypeError, ValueError) as error:
            raise BadRequestError(f"values and known: {error}") from None
        if missing := set(SENSORS) - set(names):
            raise BadRequestError(f"the model needs sensor {min(missing)!r}")
        if values.ndim != 2 or values.shape != known.shape or len(values) != len(names):
            raise BadRequestError(
                "values and known have one row for each sensor, and as many columns as each other"
            )
        if not values.size or not np.isfinite(values).all():
            raise BadRequestError("values must be finite, and some")
        self.values: dict[str, Array] = dict(zip(names, values, strict=True))
        self.known = dict(zip(names, known, strict=True))

    def expected(self, name: str, ahead_s: float) -> float:
        """The value of a sensor so many seconds after the window: along its line, within range."""
        known = self.known[name][-_TREND_S:]
        seconds, values = np.flatnonzero(known), self.values[name][-_TREND_S:][known]
        value = values.mean()
        if len(values) >= _FEWEST_FOR_TREND:
            value = np.polyval(np.polyfit(seconds, values, 1), len(known) + ahead_s)
        return float(np.clip(value, *RANGES[name]))


def _asked(parameters: Mapping[str, Any]) -> tuple[str, str, float]:
    objective, sense = parameters.get("objective"), parameters.get("sense", "maximize")
    horizon_s = parameters.get("horizon", 0)
    if objective not in OUTPUTS:
        raise BadRequestError(f"parameter objective is one of {', '.join(OUTPUTS)}")
    if sense not in ("maximize", "minimize"):
        raise BadRequestError("parameter sense is maximize or minimize")
    if not isinstance(horizon_s, int | float) or not 0 <= horizon_s < float("inf"):
        raise BadRequestError("parameter horizon is a number of seconds")
    return objective, sense, horizon_s


def _bounds(inputs: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    try:
        bounds = dict(zip(inputs["bounded"], map(tuple, inputs["bounds"]), strict=True))
    except (KeyError, TypeError, ValueError):
        raise BadRequestError("bounds have a row of low and high for each of bounded") from None
    if missing := set(SETTINGS) - set(bounds):
        raise BadRequestError(f"the model needs bounds of {min(missing)!r}")
    for name, limits in bounds.items():
        if name not in SETTINGS and name not in OUTPUTS:
            raise BadRequestError(f"{name!r} can neither be set nor limited")
        if len(limits) != 2 or not limits[0] < limits[1]:
            raise BadRequestError(f"bounds of {name!r} are low and high, low below high")
    return bounds
