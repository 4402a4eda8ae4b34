"""A product: its name, its tasks and its pipeline."""

from __future__ import annotations

import inspect
import logging
import math
import operator
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sinfer.aio.own_thread import OwnThread
from sinfer.config.model import explain
from sinfer.errors import ConfigError, HookError, SinferError
from sinfer.hooks.call import Hook, made
from sinfer.products.managers import BrokenTask, TaskManager
from sinfer.products.pipeline import InferPipeline
from sinfer.products.pipeline_check import pipeline_problem, results_per_problem
from sinfer.products.task import InferTaskConfig

_log = logging.getLogger(__name__)

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

    def copy(self) -> TaskList:
        """The same in dictionaries of its own."""
        return TaskList(dict(self.tasks), dict(self.problems), self.complete)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What came of a task's settings when they were looked at: the task, or a problem."""

    settings: Any
    task: InferTaskConfig | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _ToAwait:
    """What a plain function returned that has to be awaited."""

    result: Any


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
        if problem := pipeline_problem(pipeline):
            raise ConfigError(f"product {name!r}: {problem}")
        if problem := _refresh_problem(tasks):
            raise ConfigError(f"product {name!r}: {problem}")
        self.name = name
        self.tasks = tasks
        self.pipeline = pipeline
        self.task_type: type[InferTaskConfig] = pipeline.task_type()
        self._checked: dict[str, _Checked] = {}
        self._known: list[_Checked] = []
        self._listed: TaskList | None = None
        self._thread = OwnThread[Any](f"tasks of {name}")

    def make_pipeline(self, task: InferTaskConfig) -> InferPipeline[Any, Any]:
        """The product's code, made for a task.

        Raises:
            ConfigError: it cannot be made.
        """
        what = f"product {self.name!r}, task {task.id!r}: its pipeline"
        pipeline: InferPipeline[Any, Any] = made(what, self.pipeline, task)
        if not isinstance(getattr(pipeline, "task", None), InferTaskConfig):
            raise ConfigError(f"{what} has no task; its __init__ must call super().__init__(task)")
        if problem := results_per_problem(pipeline.results_per):
            raise ConfigError(f"{what}: {problem}")
        if task.inference.share_calls is not None and pipeline.results_per != "item":
            raise ConfigError(
                f"{what}: inference.share_calls takes answers apart by items, so it needs"
                f" results_per = 'item', not {pipeline.results_per!r}; leave share_calls out"
            )
        return pipeline

    async def _asked(self) -> list[Any]:
        """What the task manager says. Where it is no coroutine it may block, and has a thread."""
        ask = Hook(
            "tasks", "list_tasks", self.tasks.list_tasks, task=self.name, passing=(SinferError,)
        )
        # A generator is the product's own code, too.
        read = Hook("tasks", "list_tasks", list, task=self.name, passing=(SinferError,))
        if inspect.iscoroutinefunction(self.tasks.list_tasks):
            found: list[Any] = read(await ask.wait())
            return found

        def listed() -> Any:
            answer = self.tasks.list_tasks()
            return _ToAwait(answer) if inspect.isawaitable(answer) else list(answer)

        plain = Hook("tasks", "list_tasks", listed, task=self.name, passing=(SinferError,))
        answer = await self._thread.call(plain)
        if isinstance(answer, _ToAwait):
            later = Hook(
                "tasks", "list_tasks", lambda: answer.result, task=self.name, passing=(SinferError,)
            )
            answer = read(await later.wait())
        return list(answer)

    async def list_tasks(self) -> TaskList:
        """Ask the task manager, validate what it says and tell the valid from the broken.

        Raises:
            SinferError: the task manager cannot answer.
        """
        listed = await self._asked()
        if self._listed is not None and _are_same([c.settings for c in self._known], listed):
            return self._listed.copy()
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
            try:
                name: str | None = Hook("tasks", "id", _id_of)(raw)
            except HookError as error:
                problems[f"task {place}"] = f"product {self.name!r}, task {place}: {error}"
                complete = False
                continue
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
            if known is None or not _is_same(known.settings, raw):
                where = label if name is None else f"task {label!r}"
                known = self._check(raw, f"product {self.name!r}, {where}")
            checked[label] = known
            if known.task is not None:
                tasks[known.task.id] = known.task
            else:
                problems[label] = _shortened(known.problem)
                complete = complete and name is not None
        self._checked = checked
        found = TaskList(tasks, problems, complete)
        self._known = [*checked.values()]
        self._listed = found.copy() if len(checked) == len(listed) else None
        return found

    async def close_tasks(self) -> None:
        """Close the connections of the task manager; what goes wrong with that is logged."""
        try:
            await Hook("tasks", "aclose", self.tasks.aclose, task=self.name).wait()
        except HookError as error:
            _log.warning("product %s: its task manager: %s", self.name, error)

    def _check(self, raw: Any, where: str) -> _Checked:
        if isinstance(raw, self.task_type):
            return _Checked(raw, raw)
        validate = Hook("tasks", "task", self.task_type.model_validate, passing=(ValidationError,))
        settings = raw
        try:
            # A copy, so that settings that are changed in place are seen to differ.
            settings = Hook("tasks", "task", deepcopy)(raw)
            return _Checked(settings, validate(raw))
        except ValidationError as error:
            try:
                text = str(Hook("tasks", "task", explain)(error, where, raw))
            except HookError as worse:
                text = f"{where}: {worse.text}"
            return _Checked(settings, None, text)
        except HookError as error:  # a product's own validators
            return _Checked(settings, None, f"{where}: {error.text}")

    def __repr__(self) -> str:
        return f"<Product {self.name}>"


_LONGEST_ID = 128
"""Longer ones are refused, and are not repeated in full."""

_LONGEST_PROBLEM = 2_000


def _shortened(text: str, length: int = _LONGEST_PROBLEM) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _id_of(raw: Any) -> str | None:
    found = raw.get("id") if isinstance(raw, Mapping) else getattr(raw, "id", None)
    return None if found is None else f"{found}"


def _is_same(settings: Any, raw: Any) -> bool:
    """Whether settings are as they were; where they cannot be compared, they are not."""
    try:
        return settings is raw or bool(_SAME(settings, raw))
    except HookError:
        return False


def _are_same(settings: list[Any], listed: list[Any]) -> bool:
    """Whether all settings are as they were, in the same order, as they mostly are."""
    try:
        return bool(_SAME(settings, listed))
    except HookError:
        return False


_SAME = Hook("tasks", "task", operator.eq)


def _refresh_problem(tasks: TaskManager[Any]) -> str:
    """What is wrong with how often a task manager wants to be asked; empty when nothing is."""
    refresh: object = tasks.refresh
    if isinstance(refresh, int | float) and math.isfinite(refresh) and refresh >= 0:
        return ""
    return f"{type(tasks).__name__}.refresh is {refresh!r:.100}; it must be a number of seconds"
