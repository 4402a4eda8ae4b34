"""Windows that are refused whole and taken in parts: each costs several calls, and a setting ends
that."""

from __future__ import annotations

import logging

from sinfer.logging.throttled import Throttled
from sinfer.worker.item_search import Halved, ItemSearch

_log = logging.getLogger(__name__)

_IN_A_ROW = 2
"""One window may have met a hiccup of the model."""


class HalvingWatch:
    """Watches the windows of one task in one process.

    Args:
        task: what the task is called.

    Attributes:
        in_a_row: windows that came through in parts only.
    """

    def __init__(self, task: str) -> None:
        self._task = task
        self._in_parts = Throttled(_log)
        self._items = 0
        self.in_a_row = 0

    def took(self, items: int) -> None:
        """The model took so many items at once."""
        if items >= self._items:
            self.in_a_row = 0

    def look_at(self, search: ItemSearch) -> str:
        """Look at a window that came through; returns what is to be told of it, empty for nothing.

        It is in the log then.
        """
        halved = search.halved
        if halved is None:
            if search.calls == 1:
                self.took(len(search.window))
            return ""
        self._items = halved.items
        self.in_a_row += 1
        text = _text(halved)
        is_told = self.in_a_row >= _IN_A_ROW and self._in_parts.tell(
            f"{self._task}: {text}", problem=halved.stage
        )
        return text if is_told else ""


def _text(halved: Halved) -> str:
    who = "the model" if halved.stage == "inference" else f"build_{halved.stage}"
    return (
        f"{who} refuses {halved.items} items at once and takes them in parts, which costs"
        f" {halved.calls} calls a window; set inference.max_batch: {halved.taken}"
        f" (it says: {halved.reason})"
    )
