"""The demonstration of soe notices whatever is not as it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sinfer.products.soe.demo_results import (
    ALONE,
    FOLLOWING,
    IMPOSSIBLE,
    Findings,
    expected_windows,
    judge,
    plot,
)
from sinfer.products.soe.simulator import Point

START = 1_700_000_000.0
WINDOWS = expected_windows(START, 60)

Answers = list[dict[str, Any]]


def answer(unit: str, start: float) -> dict[str, Any]:
    plant, _, name = unit.partition(".")
    status = "infeasible" if unit == IMPOSSIBLE else "converged"
    return {"plant": plant, "unit": name, "start": start, "status": status}


def points(gain: float) -> list[Point]:
    return [
        Point(unit, START + second, profit)
        for second in range(60)
        for unit, profit in ((FOLLOWING, 10 + gain), (ALONE, 10.0))
    ]


def judged(
    change: Callable[[Answers, Answers], object] = lambda stored, sent: None, gain: float = 1.0
) -> Findings:
    """Findings of a faultless run after something was changed in it."""
    stored = [answer(unit, s) for unit in (FOLLOWING, ALONE, IMPOSSIBLE) for s in WINDOWS]
    sent = [answer(FOLLOWING, start) for start in WINDOWS]
    change(stored, sent)
    return judge(stored, sent, points(gain), WINDOWS)


def test_windows_are_those_that_hold_a_reading() -> None:
    # [START - 50, START + 10) is the first with one, [START + 50, START + 110) the last.
    assert {START + 10 * n for n in range(-5, 6)} == WINDOWS


def test_a_faultless_run_is_right() -> None:
    findings = judged()
    assert findings.is_right
    assert findings.as_dict()["ok"] is True


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda stored, sent: stored.pop(), "1 windows without, 0 too many"),
        (lambda stored, sent: stored.append(stored[0]), "0 windows without, 1 too many"),
        (lambda stored, sent: sent.pop(), "1 missing, 0 too many"),
        (lambda stored, sent: sent.append(sent[0]), "0 missing, 1 too many"),
        (lambda stored, sent: sent.append(answer(ALONE, START)), "0 missing, 1 too many"),
        (lambda stored, sent: sent.append(answer(IMPOSSIBLE, START)), "0 missing, 1 too many"),
        (lambda stored, sent: stored[-1].update(status="converged"), "1 converged"),
    ],
)
def test_what_is_wrong_is_told(change: Callable[[Answers, Answers], object], text: str) -> None:
    findings = judged(change)
    assert not findings.is_right
    assert any(text in line for line in (check for right, check in findings.checks if not right))


def test_setpoints_that_do_not_pay_are_a_failure() -> None:
    assert not judged(gain=-0.1).is_right


def test_the_plot_has_a_line_for_each_twin() -> None:
    chart = plot(points(1.0), START)
    assert f"with set-points ({FOLLOWING})" in chart
    assert f"without ({ALONE})" in chart
