"""A product: its name, its tasks and its pipeline."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sinfer.config import explain
from sinfer.errors import ConfigError
from sinfer.products.managers import TaskManager
from sinfer.products.pipeline import InferPipeline
from sinfer.products.task import InferTaskConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of a product at one moment.

    Attributes:
        tasks: valid tasks by id.
        problems: what is wrong with the others, by id or place; one text each.
    """

    tasks: dict[str, InferTaskConfig] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class Product:
    """What a product package exports, usually as ``product``.

    Args:
        name: letters, digits, ``_`` and ``-``, at most 64.
        tasks: where the tasks come from.
        pipeline: the pipeline class; its first type argument is the task class.

    Raises:
        ConfigError: the name or a part is not usable.
    """

    def __init__(
        self, name: str, *, tasks: TaskManager[Any], pipeline: type[InferPipeline[Any, Any]]
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"product name {name!r}: use letters, digits, '_' and '-', at most 64 characters"
            )
        if not isinstance(tasks, TaskManager):
            raise ConfigError(f"product {name!r}: tasks must be a TaskManager, not {tasks!r}")
        if not (isinstance(pipeline, type) and issubclass(pipeline, InferPipeline)):
            raise ConfigError(f"product {name!r}: pipeline must be a subclass of InferPipeline")
        self.name = name
        self.tasks = tasks
        self.pipeline = pipeline
        self.task_type: type[InferTaskConfig] = pipeline.task_type()

    async def list_tasks(self) -> TaskList:
        """Ask the task manager, validate what it says and tell the valid from the broken.

        Raises:
            Exception: whatever the task manager raises when it cannot answer.
        """
        listed = self.tasks.list_tasks()
        if inspect.isawaitable(listed):
            listed = await listed
        found = TaskList()
        for place, raw in enumerate(listed):
            name = raw.get("id") if isinstance(raw, dict) else getattr(raw, "id", None)
            label = str(name) if name is not None else f"task {place + 1}"
            try:
                task = self._validated(raw)
            except ValidationError as error:
                where = f"product {self.name!r}, {label if name is None else f'task {name!r}'}"
                found.problems[label] = str(explain(error, where))
                continue
            if task.id in found.tasks:
                found.problems[label] = (
                    f"product {self.name!r}: id {task.id!r} is used by two tasks; the first counts"
                )
                continue
            found.tasks[task.id] = task
        return found

    def _validated(self, raw: Any) -> InferTaskConfig:
        return raw if isinstance(raw, self.task_type) else self.task_type.model_validate(raw)

    def __repr__(self) -> str:
        return f"<Product {self.name}>"
