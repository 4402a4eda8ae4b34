"""What the demonstration found: results, set-points and profits as they should be, and a plot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from sinfer.config.units import parse_duration
from sinfer.products.soe.plot import Line, line_chart
from sinfer.products.soe.simulator import Point
from sinfer.products.soe.tasks import DEFAULTS
from sinfer.products.soe.units import UNITS

FOLLOWING, ALONE, IMPOSSIBLE = (unit["id"] for unit in UNITS)
"""The unit that follows its set-points, its twin that gets none, and one that cannot be helped."""

SIZE_S, SLIDE_S = (
    round(parse_duration(DEFAULTS["window"][name]).total_seconds()) for name in ("size", "slide")
)
_PLOT_STEP_S = 10

Answer = Mapping[str, Any]
"""A result as it is stored: see ``pipeline.Answer``."""


@dataclass(slots=True)
class Findings:
    """What was found.

    Attributes:
        checks: whether something is as it should be, and what.
        data: the figures.
    """

    checks: list[tuple[bool, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether everything is as it should be."""
        return all(right for right, _ in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        checks = [{"ok": right, "text": text} for right, text in self.checks]
        return {"ok": self.is_right, "product": "soe", **self.data, "checks": checks}

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{'✔' if right else '✘'} {text}" for right, text in self.checks]
        return [*lines, f"  profit over time, with and without set-points: {self.data['plot']}"]


def expected_windows(start_s: float, seconds: int) -> set[float]:
    """Starts of all windows that hold a reading of ``[start_s, start_s + seconds)``.

    Args:
        start_s: a multiple of the slide.
    """
    first = int(start_s) - SIZE_S + SLIDE_S
    return {float(start) for start in range(first, int(start_s) + seconds, SLIDE_S)}


def judge(
    stored: Sequence[Answer],
    published: Sequence[Answer],
    points: Sequence[Point],
    windows: set[float],
) -> Findings:
    """Check what a run left behind.

    Args:
        stored: all results in the database.
        published: all set-points in JetStream.
        points: what the units earned.
        windows: starts of the windows that each unit must have a result for.
    """
    profits = {
        unit: fmean(p.profit for p in points if p.unit == unit) for unit in (FOLLOWING, ALONE)
    }
    return Findings(
        [
            _one_result_for_each_window(stored, windows),
            _only_converged_answers_are_sent(stored, published),
            _impossible_is_infeasible(stored),
            _following_pays(profits),
        ],
        {
            "results": len(stored),
            "statuses": dict(Counter(answer["status"] for answer in stored)),
            "setpoints_sent": len(published),
            "profit_with": round(profits[FOLLOWING], 2),
            "profit_without": round(profits[ALONE], 2),
        },
    )


def _one_result_for_each_window(stored: Sequence[Answer], windows: set[float]) -> tuple[bool, str]:
    expected = Counter((unit["id"], start) for unit in UNITS for start in windows)
    found = Counter((_unit(answer), answer["start"]) for answer in stored)
    if found == expected:
        return True, f"{len(stored)} results, exactly one for each window of each unit"
    missing, surplus = (expected - found).total(), (found - expected).total()
    return False, f"{len(stored)} results: {missing} windows without, {surplus} too many"


def _only_converged_answers_are_sent(
    stored: Sequence[Answer], published: Sequence[Answer]
) -> tuple[bool, str]:
    sent = Counter((_unit(answer), answer["start"]) for answer in published)
    right = Counter(
        (FOLLOWING, answer["start"])
        for answer in stored
        if _unit(answer) == FOLLOWING and answer["status"] == "converged"
    )
    if sent and sent == right:
        return True, f"{len(published)} set-points sent: each converged answer of {FOLLOWING} once"
    lost, surplus = (right - sent).total(), (sent - right).total()
    return False, f"{len(published)} set-points sent: {lost} missing, {surplus} too many"


def _impossible_is_infeasible(stored: Sequence[Answer]) -> tuple[bool, str]:
    statuses = Counter(answer["status"] for answer in stored if _unit(answer) == IMPOSSIBLE)
    is_right = statuses["infeasible"] > 0 and statuses["converged"] == 0
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    return is_right, f"{IMPOSSIBLE}, which cannot be as pure as asked for: {counts}"


def _following_pays(profits: Mapping[str, float]) -> tuple[bool, str]:
    gain = profits[FOLLOWING] - profits[ALONE]
    text = (
        f"profit with set-points {profits[FOLLOWING]:.1f} €/h, without {profits[ALONE]:.1f} €/h"
        f" ({gain / abs(profits[ALONE]):+.0%})"
    )
    return gain > 0, text


def plot(points: Sequence[Point], start_s: float) -> str:
    """Profits of the two twins over time, as SVG."""
    lines = {
        f"with set-points ({FOLLOWING})": _means(points, FOLLOWING, start_s),
        f"without ({ALONE})": _means(points, ALONE, start_s),
    }
    return line_chart("Profit of two equal reactors", "seconds", "€/h", lines)


def _means(points: Sequence[Point], unit: str, start_s: float) -> Line:
    steps: dict[int, list[float]] = {}
    for point in points:
        if point.unit == unit:
            steps.setdefault(int(point.time - start_s) // _PLOT_STEP_S, []).append(point.profit)
    return [((step + 0.5) * _PLOT_STEP_S, fmean(values)) for step, values in steps.items()]


def _unit(answer: Answer) -> str:
    return f"{answer['plant']}.{answer['unit']}"
