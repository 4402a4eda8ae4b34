"""The example's own tests, and how a product is tested: no server, no waiting."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.products.example import product
from sinfer.products.example.data import samples
from sinfer.products.example.pipeline import FEATURES
from sinfer.testing import MakeTester, TaskTester, v2_inputs, v2_response

pytest_plugins = ["sinfer.testing"]


def first_features(request: Any) -> Any:
    """A model that answers with the first feature of each item."""
    return v2_response(y=v2_inputs(request)["x"][::FEATURES])


@pytest.fixture
def task(task_tester: MakeTester) -> TaskTester:
    return task_tester(product, "ex_1", model=first_features)


def test_a_full_window_is_one_request_and_one_result_for_each_message(task: TaskTester) -> None:
    task.feed(*samples(100))
    [window] = task.windows
    assert window.window is not None
    assert window.window.close_reason == "count"
    assert len(window.requests) == 1
    assert window.requests[0]["inputs"][0]["shape"] == [100, FEATURES]
    assert [result["id"] for result in task.results] == list(range(100))
    assert [result["y"] for result in task.results] == [s.features[0] for s in samples(100)]


def test_answers_above_the_threshold_of_the_task_are_marked(task_tester: MakeTester) -> None:
    task = task_tester(product, {"threshold": 0.7}, model=v2_response(y=[0.6, 0.7, 0.8]))
    task.feed(*samples(3))
    task.close_windows()
    assert [result["high"] for result in task.results] == [False, False, True]


def test_a_window_that_does_not_fill_closes_in_time(task: TaskTester) -> None:
    task.feed(*samples(3))
    assert not task.windows
    task.advance("5s")
    assert [result["id"] for result in task.results] == [0, 1, 2]


def test_what_is_no_reading_is_a_dead_letter_and_disturbs_nobody(task: TaskTester) -> None:
    [good] = samples(1)
    task.feed(good, "nonsense", {"id": 2, "time": 0.0, "features": [1.0]})
    task.close_windows()
    assert [result["id"] for result in task.results] == [0]
    assert [letter.stage for letter in task.dead_letters] == ["preprocess", "preprocess"]
    assert "features" in task.dead_letters[1].error
