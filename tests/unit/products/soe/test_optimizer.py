"""The optimisation keeps to bounds, finds what a brute search finds, and admits what it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinfer.products.soe.optimizer import Problem, optimize
from sinfer.products.soe.reactor import OUTPUTS, RANGES, steady_state
from sinfer.products.soe.surrogate import INPUTS, Surrogate, fitted_surrogate

SURROGATE = fitted_surrogate()
BOUNDS = {"temperature": (345.0, 385.0), "flow": (0.5, 2.2), "impurity": (0.0, 0.15)}


def problem(activity: float = 0.6, **changes: Any) -> Problem:
    whole: dict[str, Any] = {
        "objective": "profit",
        "maximize": True,
        "bounds": BOUNDS,
        "disturbances": [activity],
        "current": [371.0, 2.2],
    }
    return Problem(**(whole | changes))


def pair(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    """Bounds within a range, at least a twentieth of it apart."""
    least = (high - low) / 20
    return st.floats(low, high - least).flatmap(
        lambda start: st.tuples(st.just(start), st.floats(start + least, high))
    )


def test_the_surrogate_predicts_the_simulation_where_it_was_not_run() -> None:
    draw = np.random.default_rng(7)
    low, high = np.array([RANGES[name] for name in INPUTS]).T
    inputs = draw.uniform(low, high, size=(500, len(INPUTS)))
    right = np.array([steady_state(*row) for row in inputs])
    error = np.sqrt(np.mean((SURROGATE.predict(inputs) - right) ** 2, axis=0))
    assert all(error < 0.05 * right.std(axis=0)), dict(zip(OUTPUTS, error, strict=True))


@pytest.mark.parametrize("activity", [0.35, 0.5, 0.7, 1.05])
@pytest.mark.parametrize("maximize", [True, False])
def test_it_is_as_good_as_a_brute_search(activity: float, maximize: bool) -> None:
    answer = optimize(SURROGATE, problem(activity, maximize=maximize))
    temperature, flow = np.meshgrid(
        np.linspace(*BOUNDS["temperature"], 150), np.linspace(*BOUNDS["flow"], 150)
    )
    inputs = np.stack([temperature, flow, np.full_like(flow, activity)], axis=-1)
    impurity, profit = SURROGATE.predict(inputs).reshape(-1, 2).T
    allowed = profit[impurity <= BOUNDS["impurity"][1]]
    best = allowed.max() if maximize else allowed.min()
    assert answer.status == "converged"
    assert answer.objective is not None
    assert answer.objective == pytest.approx(best, abs=0.3)


@settings(max_examples=40, deadline=None)
@given(
    temperature=pair(*RANGES["temperature"]),
    flow=pair(*RANGES["flow"]),
    purest=st.floats(0.02, 0.5),
    activity=st.floats(*RANGES["activity"]),
    maximize=st.booleans(),
)
def test_what_converged_keeps_all_bounds(
    temperature: tuple[float, float],
    flow: tuple[float, float],
    purest: float,
    activity: float,
    maximize: bool,
) -> None:
    bounds = {"temperature": temperature, "flow": flow, "impurity": (-0.05, purest)}
    answer = optimize(SURROGATE, problem(activity, bounds=bounds, maximize=maximize))
    if answer.status != "converged":
        assert not answer.setpoints
        assert answer.objective is None
        assert answer.reason
        return
    for name, value in answer.setpoints.items():
        low, high = bounds[name]
        assert low <= value <= high
    impurity, profit = SURROGATE.predict(np.array([*answer.setpoints.values(), activity]))
    assert impurity <= purest + 1e-3
    assert answer.objective == pytest.approx(profit)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"impurity": (0.0, 0.001)}, "keep impurity within theirs"),
        ({"impurity": (0.9, 0.95)}, "keep impurity within theirs"),
        ({"profit": (500.0, 600.0)}, "profit"),
        ({"temperature": (400.0, 450.0)}, "temperature: the model knows"),
    ],
)
def test_bounds_that_nothing_keeps_are_infeasible(
    bounds: dict[str, tuple[float, float]], reason: str
) -> None:
    answer = optimize(SURROGATE, problem(bounds=BOUNDS | bounds))
    assert answer.status == "infeasible"
    assert reason in answer.reason
    assert not answer.setpoints


def test_a_search_that_is_cut_short_has_not_converged() -> None:
    answer = optimize(SURROGATE, problem(), max_iterations=1)
    assert answer.status == "not_converged"
    assert "1 iterations" in answer.reason
    assert not answer.setpoints


def test_settings_outside_of_the_bounds_are_no_obstacle() -> None:
    away = optimize(SURROGATE, problem(current=[500.0, -3.0]))
    assert away.objective == pytest.approx(optimize(SURROGATE, problem()).objective, abs=0.01)


def test_the_surrogate_takes_one_row_or_many() -> None:
    rows = np.array([[360.0, 1.0, 0.5], [370.0, 2.0, 1.0]])
    both = Surrogate.predict(SURROGATE, rows)
    assert np.allclose(both[1], SURROGATE.predict(rows[1]))
