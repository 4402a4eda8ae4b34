"""An open window in the hands of a planner."""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from sinfer.types.message import Message
from sinfer.windows.records import WindowRecord

Slot = Hashable
"""Where a planner keeps an open window: what an item's key and time decide."""


class OpenWindow(msgspec.Struct, gc=False):
    """An open window, stored or about to be.

    Attributes:
        id: the id under which the store keeps it.
        record: its description.
        stored: whether the store has it already.
        due_ms: the watermark at which something happens to it; None for never.
        fresh: messages that the current plan adds; None while it adds none.
    """

    id: str
    record: WindowRecord
    stored: bool
    due_ms: int | None = None
    fresh: list[Message] | None = None
