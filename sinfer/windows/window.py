"""A closed window as products see it: a sequence of items with its bounds and reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Literal, TypedDict, TypeVar, Unpack, overload

from sinfer.types.message import Message

T = TypeVar("T")

CloseReason = Literal["count", "bytes", "time", "idle", "gap", "drain", "condition", "deadline"]
"""Why a window closed; ``condition`` is a product's own ``close_when``, and ``deadline`` that its
results would have come too late otherwise."""


class Close(TypedDict, total=False):
    """Where a window was, and why it closed; see ``Window``."""

    start: float | None
    end: float | None
    close_reason: CloseReason
    revision: int
    due_s: float | None


class Window(Sequence[T], Generic[T]):
    """The items of one window, in the order of the stream.

    A slice of a window is a window of the same identity with fewer items.

    Attributes:
        id: deterministic, the same for every replay of the stream.
        task: id of the task.
        key: what ``InferPipeline.key`` returned for the items.
        start, end: bounds ``[start, end)``, seconds since the epoch; None for count windows.
        close_reason: count, bytes, time, idle, gap, drain, condition or deadline.
        revision: 0, or how often late items made the window fire again.
        messages: the messages that the items were made of, one for each item.
        due_s: when its results are due, by ``time.monotonic()`` of this process; None where the
            task has no ``deadline``.
    """

    __slots__ = (
        "_items", "close_reason", "due_s", "end", "id", "key", "messages", "revision", "start",
        "task",
    )  # fmt: skip

    def __init__(
        self,
        items: Sequence[T],
        messages: Sequence[Message],
        *,
        id: str,
        task: str,
        key: str = "all",
        **close: Unpack[Close],
    ) -> None:
        if len(items) != len(messages):
            raise ValueError(f"{len(items)} items but {len(messages)} messages")
        self._items = items
        self.messages = messages
        self.id = id
        self.task = task
        self.key = key
        self.start = close.get("start")
        self.end = close.get("end")
        self.close_reason: CloseReason = close.get("close_reason", "count")
        self.revision = close.get("revision", 0)
        self.due_s = close.get("due_s")

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Window[T]: ...
    def __getitem__(self, index: int | slice) -> T | Window[T]:
        if isinstance(index, slice):
            return self._of(self._items[index], self.messages[index])
        return self._items[index]

    def at(self, places: Sequence[int]) -> Window[T]:
        """A window of the same identity with the items at some places, as a slice is one."""
        return self._of([self._items[n] for n in places], [self.messages[n] for n in places])

    def _of(self, items: Sequence[T], messages: Sequence[Message]) -> Window[T]:
        return Window(
            items,
            messages,
            id=self.id,
            task=self.task,
            key=self.key,
            start=self.start,
            end=self.end,
            close_reason=self.close_reason,
            revision=self.revision,
            due_s=self.due_s,
        )

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<Window {self.id} of {len(self)} items, closed by {self.close_reason}>"
