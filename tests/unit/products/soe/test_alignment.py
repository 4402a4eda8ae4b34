"""Readings on a grid of seconds: gaps filled by the stated rule, what is not known told apart.

The drawings have one character a second: a digit is a reading of that value, a dot is silence; in
`known`, `x` is known and `-` is padding.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.products.soe.sensor_grid import Grid, Reading, align

START = 1_700_000_000.0


def drawn(read: str, sensor: str = "s") -> list[Reading]:
    """The readings of a drawing, each in the middle of its second."""
    return [
        Reading(sensor, START + place + 0.5, float(mark))
        for place, mark in enumerate(read)
        if mark != "."
    ]


def row(grid: Grid) -> tuple[str, str, bool]:
    (values,), (known,) = grid.values, grid.known
    marks = "".join("x" if k else "-" for k in known)
    return "".join(f"{value:.0f}" for value in values), marks, bool(grid.stale)


@pytest.mark.parametrize(
    ("read", "value", "known", "stale"),
    [
        ("12345678", "12345678", "xxxxxxxx", False),
        # A gap repeats the reading before it, which counts for max_gap seconds: two here.
        ("1..4567.", "11145677", "xxxxxxxx", False),
        ("1...5678", "11115678", "xxx-xxxx", False),
        # Nothing before the first reading is known; it is padded backwards.
        ("..3...7.", "33333377", "--xxx-xx", False),
        (".......8", "88888888", "-------x", False),
        # A sensor that went silent is stale once its last reading does not count any more.
        ("12345...", "12345555", "xxxxxxx-", True),
        ("123456..", "12345666", "xxxxxxxx", False),
        ("1.......", "11111111", "xxx-----", True),
        ("........", "00000000", "--------", True),
    ],
)
def test_gaps_are_filled_by_the_rule(read: str, value: str, known: str, stale: bool) -> None:
    assert row(align(drawn(read), ["s"], START, len(read), max_gap=2)) == (value, known, stale)


@pytest.mark.parametrize(("max_gap", "known"), [(0, "x----x--"), (1, "xx---xx-"), (9, "x" * 8)])
def test_max_gap_is_how_long_a_reading_counts(max_gap: int, known: str) -> None:
    assert row(align(drawn("1....6.."), ["s"], START, 8, max_gap))[1] == known


def test_of_several_readings_in_a_second_the_last_by_time_counts() -> None:
    readings = [Reading("s", START + 0.9, 3.0), Reading("s", START + 0.1, 1.0)]
    assert align(readings, ["s"], START, 1, 0).values == [[3.0]]


def test_a_reading_on_the_boundary_belongs_to_the_second_that_begins() -> None:
    readings = [Reading("s", START, 1.0), Reading("s", START + 1, 2.0)]
    assert align(readings, ["s"], START, 2, 0).values == [[1.0, 2.0]]


def test_each_sensor_has_its_row_in_the_order_that_is_asked_for() -> None:
    readings = [*drawn("1.2.", "a"), *drawn("....", "b"), *drawn("9999", "other")]
    grid = align(readings, ["b", "a"], START, 4, max_gap=1)
    assert grid.values == [[0, 0, 0, 0], [1, 1, 2, 2]]
    assert grid.known == [[False] * 4, [True] * 4]
    assert grid.stale == ["b"]


@given(st.text(".123", min_size=1, max_size=40), st.integers(0, 10), st.randoms())
def test_the_grid_is_whole_and_says_what_was_measured(
    read: str, max_gap: int, order: random.Random
) -> None:
    readings = drawn(read)
    order.shuffle(readings)
    grid = align(readings, ["s"], START, len(read), max_gap)
    (values,), (known,) = grid.values, grid.known
    assert len(values) == len(known) == len(read)
    for place, mark in enumerate(read):
        recent = read[max(0, place - max_gap) : place + 1]
        assert known[place] is any(one != "." for one in recent)
        before = [one for one in read[: place + 1] if one != "."]
        after = [one for one in read[place:] if one != "."]
        nearest = before[-1:] or after[:1] or ["0"]
        assert values[place] == float(nearest[0])
        assert mark == "." or known[place]
    assert bool(grid.stale) is not known[-1]
