"""A product's own trigger, ``close_when``: what it raises is the fault of the item alone."""

from __future__ import annotations

from typing import Any

from sinfer.errors import InvalidItemError
from sinfer.hooks.call import reason_of
from sinfer.windows.planner import CloseWhen, WindowStats


def guarded(close_when: CloseWhen) -> CloseWhen:
    """The trigger, as a planner takes it: it raises ``InvalidItemError`` and nothing else."""

    def ask(window: WindowStats, item: Any) -> bool:
        try:
            return bool(close_when(window, item))
        except BaseException as error:
            raise InvalidItemError(f"close_when: {reason_of(error)}") from error

    return ask
