"""A product of many quiet tasks, as many as ``BENCH_TASKS`` says."""

from __future__ import annotations

import os

from benchmarks.harness.streams import TIMED_IN
from sinfer import Product, StaticTaskManager
from sinfer.products.example.pipeline import ExamplePipeline
from sinfer.products.example.task import ExampleTask

COUNT_VARIABLE = "BENCH_TASKS"
NAME = "bench-many"


def subject_of(number: int) -> str:
    """What a task reads."""
    return f"{TIMED_IN}.{number}"


def task_id(number: int) -> str:
    """The id of a task."""
    return f"quiet-{number}"


tasks: StaticTaskManager[ExampleTask] = StaticTaskManager(
    [
        {
            "id": task_id(number),
            "source": {"stream": TIMED_IN, "subject": subject_of(number)},
            "window": {"type": "tumbling", "size": "5s", "time": "event", "idle": "5s"},
            "inference": {"type": "v2", "url": "http://127.0.0.1:1", "model": "example"},
            "sinks": [{"type": "log"}],
        }
        for number in range(int(os.environ.get(COUNT_VARIABLE, "1")))
    ]
)

product = Product(NAME, tasks=tasks, pipeline=ExamplePipeline)
