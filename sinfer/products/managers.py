"""Task managers: where a product's tasks come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from sinfer.products.task import InferTaskConfig

C = TypeVar("C", bound=InferTaskConfig)

DEFAULT_REFRESH_S = 5.0


class TaskManager(ABC, Generic[C]):
    """Finds all tasks of a product. It is asked again every ``refresh`` seconds.

    A task may be given as the product's task class, or as a mapping of its settings; a mapping
    that is not valid is reported and skipped and does not disturb the other tasks.
    """

    refresh: float = DEFAULT_REFRESH_S

    @abstractmethod
    def list_tasks(
        self,
    ) -> Iterable[C | Mapping[str, Any]] | Awaitable[Iterable[C | Mapping[str, Any]]]:
        """All tasks there are at the moment; may be ``async def``."""


class StaticTaskManager(TaskManager[C]):
    """Tasks that are written in the product's code."""

    def __init__(self, tasks: Sequence[C | Mapping[str, Any]]) -> None:
        self._tasks = list(tasks)

    def list_tasks(self) -> Iterable[C | Mapping[str, Any]]:
        return self._tasks
