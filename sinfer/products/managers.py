"""Task managers: where a product's tasks come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from sinfer.products.task import InferTaskConfig

C = TypeVar("C", bound=InferTaskConfig)

DEFAULT_REFRESH_S = 5.0


@dataclass(frozen=True, slots=True)
class BrokenTask:
    """A place that should hold a task, or several, but cannot be read. It is reported and skipped.

    Attributes:
        where: the row, file or key, for people.
        problem: what is wrong with it and how to put it right.
        id: of the task, where that can be told. Where it cannot, no task counts as removed as long
            as the place is broken, since this might be one that is missed.
    """

    where: str
    problem: str
    id: str | None = None


Listed: TypeAlias = Iterable[C | Mapping[str, Any] | BrokenTask]
"""What a task manager finds: tasks of the product's class, mappings of settings, broken ones."""


class TaskManager(ABC, Generic[C]):
    """Finds all tasks of a product. It is asked again every ``refresh`` seconds.

    A task may be given as the product's task class, or as a mapping of its settings; a mapping
    that is not valid is reported and skipped and does not disturb the other tasks. Mappings are
    better where there are secrets: references such as ``${NAME}`` stay as they are until they are
    needed.

    An exception means that nothing is known at the moment: the last known tasks stay in force.

    Attributes:
        refresh: how often to ask, in seconds.
    """

    refresh: float = DEFAULT_REFRESH_S

    @abstractmethod
    def list_tasks(self) -> Listed[C] | Awaitable[Listed[C]]:
        """All tasks there are at the moment; may be ``async def``.

        A coroutine runs on an event loop and must not block it. A plain function is called in a
        thread of its own, one call at a time, and may take its time.
        """

    async def aclose(self) -> None:
        """Close connections of the running event loop. The manager may be asked again later."""


class StaticTaskManager(TaskManager[C]):
    """Tasks that are written in the product's code."""

    def __init__(self, tasks: Sequence[C | Mapping[str, Any]]) -> None:
        self._tasks = list(tasks)

    def list_tasks(self) -> Listed[C]:
        return self._tasks
