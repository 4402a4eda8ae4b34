"""A product: its name, its tasks and its pipeline."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sinfer.config import explain
from sinfer.errors import ConfigError
from sinfer.products.managers import BrokenTask, TaskManager
from sinfer.products.pipeline import InferPipeline
from sinfer.products.task import InferTaskConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of a product at one moment.

    Attributes:
        tasks: valid tasks by id.
        problems: what is wrong with the others, by id, or by place where that is not known.
        complete: whether the ids of all tasks are known, those of broken ones included. Only then
            can a task that is not listed be taken for removed.
    """

    tasks: dict[str, InferTaskConfig] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _Checked:
    """What came of a task's settings when they were looked at: the task, or a problem."""

    settings: Any
    task: InferTaskConfig | None
    problem: str = ""


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
        self._checked: dict[str, _Checked] = {}

    async def list_tasks(self) -> TaskList:
        """Ask the task manager, validate what it says and tell the valid from the broken.

        Raises:
            Exception: whatever the task manager raises when it cannot answer.
        """
        listed = self.tasks.list_tasks()
        if inspect.isawaitable(listed):
            listed = await listed
        tasks: dict[str, InferTaskConfig] = {}
        problems: dict[str, str] = {}
        complete = True
        checked: dict[str, _Checked] = {}
        for place, raw in enumerate(listed, 1):
            if isinstance(raw, BrokenTask):
                where = raw.id or raw.where
                problem = f"product {self.name!r}, {raw.where}: {raw.problem}"
                problems[_shortened(where, _LONGEST_ID)] = _shortened(problem)
                complete = complete and raw.id is not None
                continue
            name = _id_of(raw)
            label = f"task {place}" if name is None else name
            if len(label) > _LONGEST_ID:
                label = f"{label[:40]}... (task {place})"
            if label in checked:
                problems.setdefault(
                    label,
                    f"product {self.name!r}: id {label!r} is used by two tasks; the first counts",
                )
                continue
            known = self._checked.get(label)
            if known is None or (known.settings is not raw and known.settings != raw):
                where = label if name is None else f"task {label!r}"
                known = self._check(raw, f"product {self.name!r}, {where}")
            checked[label] = known
            if known.task is not None:
                tasks[known.task.id] = known.task
            else:
                problems[label] = _shortened(known.problem)
                complete = complete and name is not None
        self._checked = checked
        return TaskList(tasks, problems, complete)

    def _check(self, raw: Any, where: str) -> _Checked:
        if isinstance(raw, self.task_type):
            return _Checked(raw, raw)
        # A copy, so that settings that are changed in place are seen to differ.
        settings = deepcopy(raw)
        try:
            return _Checked(settings, self.task_type.model_validate(raw))
        except ValidationError as error:
            return _Checked(settings, None, str(explain(error, where, raw)))
        except Exception as error:  # a product's own validators
            return _Checked(settings, None, f"{where}: {type(error).__name__}: {error}")

    def __repr__(self) -> str:
        return f"<Product {self.name}>"


_LONGEST_ID = 128
"""Longer ones are refused, and are not repeated in full."""

_LONGEST_PROBLEM = 2_000


def _shortened(text: str, length: int = _LONGEST_PROBLEM) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _id_of(raw: Any) -> str | None:
    found = raw.get("id") if isinstance(raw, Mapping) else getattr(raw, "id", None)
    return None if found is None else str(found)
