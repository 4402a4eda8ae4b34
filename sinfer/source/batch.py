"""What one read gives: new messages, how far the partition is read with them, and their ack."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from sinfer.source.checkpoint import UNKNOWN, Checkpoint
from sinfer.types.gone import Gone
from sinfer.types.message import Message

Ack = Callable[[], Awaitable[None]]
"""Acknowledges what a batch stands for."""


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
            duplicates included. For the source alone.
        ack: to be called once the batch is stored, in the order in which batches came. Where the
            task acknowledges what is done, it acknowledges only what was done before, and
            ``Source.done`` the rest. None where there is nothing to acknowledge.
        delivered_before: ``Checkpoint.delivered`` before it.
        gone: what is gone for good of all that was read before it.
        is_start: whether the state says where reading starts, which another look at the stream
            would not say again: nothing is to be read behind it before it is kept.
        discarded: messages that the stream removed before they were read, found with this batch.
    """

    messages: list[Message]
    state: Checkpoint
    pending: int = 0
    duplicates: int = 0
    deliveries: list[tuple[int, str]] = field(default_factory=list, repr=False)
    ack: Ack | None = field(default=None, repr=False)
    delivered_before: int = UNKNOWN
    gone: Sequence[Gone] = ()
    is_start: bool = False
    discarded: int = 0

    def split(self, count: int) -> tuple[Batch, Batch]:
        """The first so many messages as a batch to be stored before the rest.

        The ack travels with the rest, which is the last to be stored.
        """
        rest = self.messages[count:]
        state = self.state.without([message.stream_seq for message in rest])
        state = structs.replace(state, delivered=self.delivered_before)
        first = Batch(
            self.messages[:count], state, self.pending, gone=self.gone, discarded=self.discarded
        )
        behind = Batch(rest, self.state, self.pending, self.duplicates, self.deliveries, self.ack)
        first.delivered_before = behind.delivered_before = self.delivered_before
        return first, behind
