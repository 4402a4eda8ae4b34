"""The product that is timed: the example's pipeline, count windows, results to JetStream alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.harness.gate import gate
from benchmarks.harness.streams import TIMED_IN, TIMED_OUT, WARM_IN, WARM_OUT, subject
from benchmarks.scenarios.workload import WINDOW
from sinfer import Product, TaskManager
from sinfer.products.example.pipeline import ExamplePipeline
from sinfer.products.example.task import ExampleTask

MODEL_URL_VARIABLE = "BENCH_MODEL_URL"
"""Environment variable that holds the address of the model server."""

CHANGES_VARIABLE = "BENCH_CHANGES"
"""Environment variable that holds changes of the tasks' settings, as JSON; for tuning."""

WARM, TIMED = "warm", "timed"
"""Ids of the two tasks."""


def make_task(task_id: str, count: int) -> Mapping[str, Any]:
    """The settings of one of the two tasks.

    Args:
        task_id: ``warm`` or ``timed``.
        count: messages in a window.
    """
    source, sink = {WARM: (WARM_IN, WARM_OUT), TIMED: (TIMED_IN, TIMED_OUT)}[task_id]
    settings: dict[str, Any] = {
        "id": task_id,
        "source": {"stream": source, "subject": subject(source)},
        "window": {"type": "count", "count": count},
        "inference": {
            "type": "v2",
            "url": os.environ.get(MODEL_URL_VARIABLE, "http://127.0.0.1:8000"),
            "model": "example",
        },
        "sinks": [{"type": "jetstream", "subject": subject(sink)}],
    }
    for part, change in json.loads(os.environ.get(CHANGES_VARIABLE, "{}")).items():
        replaces = "type" in change
        settings[part] = change if replaces else {**settings[part], **change}
    if durable := settings["source"].get("durable"):
        settings["source"] = {**settings["source"], "durable": f"{durable}-{task_id}"}
    return settings


class GatedTasks(TaskManager[ExampleTask]):
    """A task to warm up with, and the timed one once the gate is open."""

    refresh = 1.0

    def __init__(self, count: int) -> None:
        self._tasks = [make_task(WARM, count), make_task(TIMED, count)]

    def list_tasks(self) -> Iterable[Mapping[str, Any]]:
        return self._tasks if gate().exists() else self._tasks[:1]


product = Product("bench", tasks=GatedTasks(WINDOW), pipeline=ExamplePipeline)
