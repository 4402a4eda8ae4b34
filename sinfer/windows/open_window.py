"""An open window in the hands of a planner."""

from __future__ import annotations

from collections.abc import Hashable
from copy import copy

from sinfer.types.message import Message
from sinfer.windows.records import WindowRecord

Slot = Hashable
"""Where a planner keeps an open window: what an item's key and time decide."""


class OpenWindow:
    """An open window, stored or about to be.

    Attributes:
        id: the id under which the store keeps it.
        record: its description.
        stored: whether the store has it already.
        fresh: messages that the current plan adds.
        due_ms: the watermark at which something happens to it; None for never.
    """

    __slots__ = ("due_ms", "fresh", "id", "record", "stored")

    def __init__(
        self, id: str, record: WindowRecord, *, stored: bool, due_ms: int | None = None
    ) -> None:
        self.id = id
        self.record = record
        self.stored = stored
        self.fresh: list[Message] = []
        self.due_ms = due_ms

    def copy(self) -> OpenWindow:
        """An independent copy without fresh messages."""
        return OpenWindow(self.id, copy(self.record), stored=self.stored, due_ms=self.due_ms)

    def append(self, message: Message) -> None:
        """Add a message."""
        record = self.record
        record.count += 1
        record.bytes += len(message.data)
        if message.stream_seq > record.last_seq:
            record.last_seq = message.stream_seq
        elif message.stream_seq < record.first_seq:
            record.first_seq = message.stream_seq
        self.fresh.append(message)
