"""The pipeline of a product: its own code, called at every step from message to result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Hashable
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

from sinfer.products.task import InferTaskConfig
from sinfer.types.message import Message
from sinfer.types.result import Result
from sinfer.windows.planner import WindowStats
from sinfer.windows.window import Window

C = TypeVar("C", bound=InferTaskConfig)
T = TypeVar("T")

DEFAULT_KEY = "all"
"""The key of all items where a pipeline does not override ``key``."""


class InferPipeline(ABC, Generic[C, T]):
    """What a product does with its messages; one instance for each task and process.

    ``preprocess``, ``key`` and ``event_time`` are pure: sinfer may call them again on the same
    bytes. ``build_request`` and ``build_results`` may be ``async def`` where they do I/O.

    Attributes:
        task: the configuration of the task.
        results_per: how many results ``build_results`` returns: one per item and in order,
            exactly one per window, or any number.
        version: of this code, where it names one: it is kept with each window that opens, and
            windows that other versions opened are counted, see ``sinfer status``.
    """

    version: ClassVar[str] = ""
    results_per: ClassVar[Literal["item", "window", "any"]] = "item"

    def __init__(self, task: C) -> None:
        self.task = task

    @abstractmethod
    def preprocess(self, message: Message) -> T | None:
        """Make an item of a message; None filters it out, an exception dead-letters it."""

    def key(self, item: T) -> str:
        """Items of one key share windows."""
        return DEFAULT_KEY

    def event_time(self, item: T) -> float | None:
        """When the item happened, seconds since the epoch; None means JetStream's timestamp."""
        return None

    def item_id(self, item: T) -> Hashable:
        """With ``window.dedupe``, a window keeps one item of each identity. Pure, as ``key`` is."""
        raise NotImplementedError("window.dedupe needs the pipeline's own item_id()")

    def close_when(self, window: WindowStats, item: T) -> bool:
        """Close a window early, right behind this item. Pure, as ``key`` is."""
        return False

    @abstractmethod
    def build_request(self, window: Window[T]) -> Any | Awaitable[Any]:
        """Make what the task's inference client sends."""

    @abstractmethod
    def build_results(
        self, window: Window[T], response: Any
    ) -> list[Result] | Awaitable[list[Result]]:
        """Make results of the model's answer, as many as ``results_per`` says."""

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Whether the product gave its own version of an optional hook."""
        return getattr(cls, hook) is not getattr(InferPipeline, hook)

    @classmethod
    def task_type(cls) -> type[InferTaskConfig]:
        """The task class between the brackets of ``InferPipeline[Task, Item]``."""
        for base in cls.__mro__:
            for generic in getattr(base, "__orig_bases__", ()):
                origin = get_origin(generic)
                if isinstance(origin, type) and issubclass(origin, InferPipeline):
                    argument = get_args(generic)[0]
                    if isinstance(argument, type) and issubclass(argument, InferTaskConfig):
                        return argument
        return InferTaskConfig
