"""Parts of a product of texts: its pipeline, and a list of tasks that a test changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sinfer import InferPipeline, InferTaskConfig, Message, Result, TaskManager, Window
from sinfer.errors import UnavailableError


class Texts(InferPipeline[InferTaskConfig, str]):
    """Items are texts, and so are results."""

    def preprocess(self, message: Message) -> str | None:
        return message.data.decode()

    def build_request(self, window: Window[str]) -> Any:
        return list(window)

    def build_results(self, window: Window[str], response: Any) -> list[Result]:
        return [Result(text) for text in window]


class Listed(TaskManager[InferTaskConfig]):
    """Lists what a test tells it to, or fails."""

    refresh = 0.05

    def __init__(self, *tasks: Mapping[str, Any]) -> None:
        self.tasks = list(tasks)
        self.is_away = False

    def list_tasks(self) -> list[Mapping[str, Any]]:
        if self.is_away:
            raise UnavailableError("the database does not answer")
        return self.tasks
