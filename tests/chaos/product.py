"""The product of a chaos run, as processes import it: each message becomes its own number."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from sinfer import InferPipeline, InferTaskConfig, Message, Product, Result, TaskManager, Window
from tests.chaos.messages import REFUSED_FEATURE

BLOCKS_S = 5.0
"""Longer than a worker's lease."""

TASKS_VARIABLE = "CHAOS_TASKS"
"""Names the environment variable with the path of the list of tasks."""


class ChaosTask(InferTaskConfig):
    """One task of the run.

    Attributes:
        keyed: whether items have keys of their own.
    """

    keyed: bool = False


class FileTasks(TaskManager[ChaosTask]):
    """The tasks that the driver wrote to a file.

    Args:
        product: whose tasks.
    """

    refresh = 1.0

    def __init__(self, product: str) -> None:
        self._product = product

    def list_tasks(self) -> Iterable[dict[str, Any]]:
        listed: dict[str, list[dict[str, Any]]]
        listed = json.loads(Path(os.environ[TASKS_VARIABLE]).read_text())
        return listed[self._product]


class Panic(BaseException):
    """What extension modules raise: no Exception."""


def _act(hook: str, item: dict[str, Any]) -> None:
    """Do what a message tells this hook to do."""
    if item.get("hook") != hook:
        return
    act = item["act"]
    if act == "raises":
        raise Panic(f"message {item['id']}")
    if act == "ends":
        sys.exit(3)
    if act == "exits":
        os._exit(3)
    if act == "segfaults":
        ctypes.string_at(0)
    if act == "blocks":
        time.sleep(BLOCKS_S)


class ChaosPipeline(InferPipeline[ChaosTask, dict[str, Any]]):
    """Asks the model for the mean of sixteen times the same number."""

    by: ClassVar[str] = "chaos"

    def preprocess(self, message: Message) -> dict[str, Any] | None:
        item: dict[str, Any] = json.loads(message.data)
        _act("preprocess", item)
        return None if item["fate"] == "filtered" else item

    def key(self, item: dict[str, Any]) -> str:
        return str(item["key"]) if self.task.keyed else "all"

    def event_time(self, item: dict[str, Any]) -> float | None:
        return float(item["time"])

    def build_request(self, window: Window[dict[str, Any]]) -> dict[str, Any]:
        for item in window:
            _act("build_request", item)
        rows = [
            REFUSED_FEATURE if item["fate"] == "refused" else float(item["id"]) for item in window
        ]
        data = [value for value in rows for _ in range(16)]
        shape = [len(window), 16]
        return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        for item in window:
            _act("build_results", item)
        answers = response.outputs["y"]
        return [
            Result({"id": item["id"], "y": y, "by": self.by})
            for item, y in zip(window, answers, strict=True)
        ]


product = Product("chaos", tasks=FileTasks("chaos"), pipeline=ChaosPipeline)
