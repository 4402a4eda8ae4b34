"""The items of several windows, as products see them where one call asks about all of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

from sinfer.errors import SharedWindowError
from sinfer.types.message import Message
from sinfer.windows.window import Window

T = TypeVar("T")


class SharedWindow(Window[T]):
    """The items of several windows of one task, one window behind the other.

    What belongs to a single window (``key``, ``start``, ``end``, ``close_reason``, ``revision``)
    cannot be asked for: each raises ``SharedWindowError``.

    Attributes:
        id: the same for the same windows in the same order.
        due_s: of the window whose results are due first.
        task, messages: as of any window.
    """

    __slots__ = ()

    def __init__(
        self,
        items: Sequence[T],
        messages: Sequence[Message],
        *,
        id: str,
        task: str,
        due_s: float | None = None,
    ) -> None:
        self._items = items
        self.messages = messages
        self.id = id
        self.task = task
        self.due_s = due_s

    @classmethod
    def of(cls, windows: Sequence[Window[T]]) -> SharedWindow[T]:
        """The items of some windows, at least one, in this order."""
        named = sha256("\n".join(window.id for window in windows).encode()).hexdigest()
        return cls(
            [item for window in windows for item in window],
            [message for window in windows for message in window.messages],
            id=f"shared-{named[:24]}",
            task=windows[0].task,
            due_s=min((w.due_s for w in windows if w.due_s is not None), default=None),
        )

    def _of(self, items: Sequence[T], messages: Sequence[Message]) -> Window[T]:
        return SharedWindow(items, messages, id=self.id, task=self.task, due_s=self.due_s)

    def __repr__(self) -> str:
        return f"<SharedWindow {self.id} of {len(self)} items>"


def _refusing(name: str) -> Any:
    def refuse(_: Any, *__: Any) -> NoReturn:
        raise SharedWindowError(name)

    return property(refuse, refuse)


for _name in ("key", "start", "end", "close_reason", "revision"):
    setattr(SharedWindow, _name, _refusing(_name))
