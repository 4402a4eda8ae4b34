"""Settings of a valid task, and products to put them into."""

from __future__ import annotations

from typing import Any

from sinfer import (
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    StaticTaskManager,
    TaskManager,
    Window,
)


class Threshold(InferTaskConfig):
    """A task with a setting of its own."""

    threshold: float = 0.5


class Upper(InferPipeline[Threshold, str]):
    """Asks a model for something about each text."""

    def preprocess(self, message: Message) -> str | None:
        return message.data.decode() or None

    def build_request(self, window: Window[str]) -> list[str]:
        return list(window)

    def build_results(self, window: Window[str], response: Any) -> list[Result]:
        pairs = zip(window, response, strict=True)
        return [Result({"text": text, "answer": answer}) for text, answer in pairs]


def upper(texts: list[str]) -> list[str]:
    """The model."""
    return [text.upper() for text in texts]


def settings_of(task_id: str, **changes: Any) -> dict[str, Any]:
    """Settings of a task, with some of them changed."""
    return {
        "id": task_id,
        "source": {"stream": "S", "subject": "s.in"},
        "window": {"type": "count", "count": 10},
        "inference": {"type": "python", "call": f"{__name__}:upper"},
        "sinks": [{"type": "log"}],
        **changes,
    }


def task_of(task_id: str = "t", **changes: Any) -> InferTaskConfig:
    """A task, with some of its settings changed."""
    return InferTaskConfig.model_validate(settings_of(task_id, **changes))


def product_of(tasks: TaskManager[Any] | list[Any], name: str = "upper") -> Product:
    """A product with these tasks."""
    manager = tasks if isinstance(tasks, TaskManager) else StaticTaskManager(tasks)
    return Product(name, tasks=manager, pipeline=Upper)
