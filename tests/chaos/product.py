"""The product of a chaos run, as processes import it: each message becomes its own number."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sinfer import InferPipeline, InferTaskConfig, Message, Product, Result, TaskManager, Window
from tests.chaos.messages import REFUSED_FEATURE

TASKS_VARIABLE = "CHAOS_TASKS"
"""Names the environment variable with the path of the list of tasks."""


class ChaosTask(InferTaskConfig):
    """One task of the run.

    Attributes:
        keyed: whether items have keys of their own.
    """

    keyed: bool = False


class FileTasks(TaskManager[ChaosTask]):
    """The tasks that the driver wrote to a file."""

    refresh = 1.0

    def list_tasks(self) -> Iterable[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(Path(os.environ[TASKS_VARIABLE]).read_text())
        return listed


class ChaosPipeline(InferPipeline[ChaosTask, dict[str, Any]]):
    """Asks the model for the mean of sixteen times the same number."""

    def preprocess(self, message: Message) -> dict[str, Any] | None:
        item: dict[str, Any] = json.loads(message.data)
        return None if item["fate"] == "filtered" else item

    def key(self, item: dict[str, Any]) -> str:
        return str(item["key"]) if self.task.keyed else "all"

    def event_time(self, item: dict[str, Any]) -> float | None:
        return float(item["time"])

    def build_request(self, window: Window[dict[str, Any]]) -> dict[str, Any]:
        rows = [
            REFUSED_FEATURE if item["fate"] == "refused" else float(item["id"]) for item in window
        ]
        data = [value for value in rows for _ in range(16)]
        shape = [len(window), 16]
        return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        answers = response.outputs["y"]
        return [Result({"id": item["id"], "y": y}) for item, y in zip(window, answers, strict=True)]


product = Product("chaos", tasks=FileTasks(), pipeline=ChaosPipeline)
