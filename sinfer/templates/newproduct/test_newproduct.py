"""Tests of newproduct: no server, no waiting. Run them with pytest."""

from __future__ import annotations

import pytest

from sinfer.testing import MakeTester, TaskTester

from . import product

pytest_plugins = ["sinfer.testing"]


def model(request: list[float]) -> list[float]:
    return [31.0] * len(request)


@pytest.fixture
def task(task_tester: MakeTester) -> TaskTester:
    return task_tester(product, "newproduct_1", model=model)


def test_each_message_has_a_result_when_its_window_closes(task: TaskTester) -> None:
    task.feed({"sensor": "a", "value": 1.0, "time": 0.0})
    task.feed({"sensor": "b", "value": 2.0, "time": 0.0})
    assert task.results == []
    task.advance("5s")
    assert task.requests == [[1.0], [2.0]]
    assert task.results == [
        {"sensor": "a", "prediction": 31.0, "alarm": True},
        {"sensor": "b", "prediction": 31.0, "alarm": True},
    ]


def test_a_message_that_is_no_reading_is_a_dead_letter(task: TaskTester) -> None:
    task.feed({"sensor": "a"})
    assert [letter.stage for letter in task.dead_letters] == ["preprocess"]
