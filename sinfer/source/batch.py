"""What one read gives: new messages, and how far the partition is read with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sinfer.source.checkpoint import SourceState
from sinfer.types.message import Message


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


class BatchInHand:
    """A batch that is stored part by part, so that no part takes long to prepare.

    Args:
        batch: as it was read.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self._stored = 0

    @property
    def rest(self) -> list[Message]:
        """The messages that are not stored yet, in order."""
        messages = self.batch.messages
        return messages[self._stored :] if self._stored else messages

    def source_after(self, count: int) -> bytes:
        """How far the partition is read with the first so many of the rest."""
        unread = self.batch.messages[self._stored + count :]
        return self.batch.state.without([message.stream_seq for message in unread]).encode()

    def stored(self, count: int) -> list[Message]:
        """The first so many of the rest are stored; returns them."""
        first, self._stored = self._stored, self._stored + count
        return self.batch.messages[first : self._stored]

    @property
    def is_stored(self) -> bool:
        """Whether nothing is left."""
        return self._stored == len(self.batch.messages)
