"""What one read gives: new messages, and how far the partition is read with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sinfer.ingest.state import SourceState
from sinfer.messages import Message


@dataclass(slots=True)
class Batch:
    """Messages to store in one step together with the state.

    Attributes:
        messages: new ones only, in the order they were delivered. May be empty: the state is to be
            stored, or deliveries are to be acknowledged, nevertheless.
        state: how far the partition is read with these messages.
        pending: how many messages the stream had yet for this partition after the last of them.
        duplicates: deliveries of messages that came in an earlier batch; left out.
        deliveries: stream sequence and reply subject of every delivery that is to be acknowledged,
            duplicates included. For the reader alone.
    """

    messages: list[Message]
    state: SourceState
    pending: int = 0
    duplicates: int = 0
    deliveries: list[tuple[int, str]] = field(default_factory=list, repr=False)
