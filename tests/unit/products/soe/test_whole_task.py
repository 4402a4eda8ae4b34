"""A unit's whole task: readings in, overlapping windows, one answer for each."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer import Product, StaticTaskManager
from sinfer.products.soe.pipeline import SoePipeline
from sinfer.testing import START, MakeTester, TaskTester, v2_response
from tests.support.soe_task import soe_task

pytest_plugins = ["sinfer.testing"]

FIRST = START - START % 60


def converged(request: Any) -> Any:
    return v2_response(
        status=["converged"], reason=[""], names=["temperature"], setpoints=[350.0], objective=[9.0]
    )


@pytest.fixture
def task(task_tester: MakeTester) -> TaskTester:
    product = Product("soe", tasks=StaticTaskManager([soe_task()]), pipeline=SoePipeline)
    return task_tester(product, model=converged, start=FIRST)


def feed(task: TaskTester, seconds: range) -> None:
    for second in seconds:
        for sensor in soe_task().sensors:
            reading = {"time": FIRST + second, "value": 1.0}
            task.feed(reading, subject=f"soe.north.r1.{sensor}", at=FIRST + second)


def test_each_window_has_one_answer_and_they_overlap(task: TaskTester) -> None:
    feed(task, range(100))
    task.advance("1m")  # the unit went silent: what is open closes
    starts = [result["start"] - FIRST for result in task.results]
    assert starts == [10.0 * n for n in range(-5, 10)]
    assert {result["status"] for result in task.results} == {"converged"}
    assert task.counts["sunk"] == 100 * len(soe_task().sensors)


def test_a_sensor_that_fell_silent_is_flagged(task: TaskTester) -> None:
    feed(task, range(60))
    others = [name for name in soe_task().sensors if name != "flow"]
    for second in range(60, 130):
        for sensor in others:
            reading = {"time": FIRST + second, "value": 1.0}
            task.feed(reading, subject=f"soe.north.r1.{sensor}", at=FIRST + second)
    assert [result["stale"] for result in task.results][-1] == ["flow"]
