"""The demonstration finds whatever is not exactly one correct result for each message."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.demo.report import Report, percentile
from sinfer.demo.verify import SinkCheck, check_sink, is_close

EXPECTED = {1: {"id": 1, "y": 0.5}, 2: {"id": 2, "y": -0.25}}
RIGHT: list[dict[str, Any]] = [{"id": 2, "y": -0.25}, {"id": 1, "y": 0.5}]


def check(results: list[dict[str, Any]]) -> SinkCheck:
    return check_sink("sink", EXPECTED, results, lambda result: result["id"])


def test_one_correct_result_each_is_right_in_any_order() -> None:
    assert check(RIGHT).is_right


@pytest.mark.parametrize(
    ("results", "what", "ids"),
    [
        (RIGHT[:1], "missing", [1]),
        ([*RIGHT, RIGHT[0]], "repeated", [2]),
        ([RIGHT[0], {"id": 1, "y": 0.6}], "wrong", [1]),
        ([*RIGHT, {"id": 3, "y": 0.0}], "unknown", [3]),
        ([], "missing", [1, 2]),
    ],
)
def test_what_is_not_right_is_told_by_its_id(
    results: list[dict[str, Any]], what: str, ids: list[int]
) -> None:
    found = check(results)
    assert not found.is_right
    assert getattr(found, what) == ids
    assert str(ids[0]) in found.describe()


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (0.1, 0.1 + 1e-8, True),  # single precision
        (0.1, 0.1001, False),
        (1, True, False),
        ({"a": [1, 2.0]}, {"a": [1, 2.0]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1], [1, 2], False),
        ("a", "a", True),
        (0.5, None, False),
        (0.5, float("nan"), False),
    ],
)
def test_values_are_equal_up_to_single_precision(expected: Any, actual: Any, same: bool) -> None:
    assert is_close(expected, actual) is same


def test_a_report_is_right_only_if_every_sink_is() -> None:
    report = Report("example", 2, checks=[check(RIGHT), check([])])
    assert not report.is_right
    assert not Report("example", 2).is_right
    assert report.as_dict()["ok"] is False
    assert [sink["missing"] for sink in report.as_dict()["sinks"]] == [0, 2]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([7.0, float("nan")], 99) == 7
    assert percentile([], 50) is None
