"""What a consumer will not deliver again though the store does not have it, as after a failover of
Redis: read from the stream where that has it, else counted as gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from sinfer.nats.jetstream_types import ConsumerInfo, StreamInfo
from sinfer.nats.subjects import covers
from sinfer.source.checkpoint import UNKNOWN, Checkpoint
from sinfer.types.gone import Gone
from sinfer.types.message import Message


def acknowledged_deliveries(info: ConsumerInfo) -> int:
    """The number of the delivery up to which all are acknowledged."""
    if info.num_ack_pending == 0:
        return info.delivered.consumer_seq
    return info.ack_floor.consumer_seq


def is_behind(state: Checkpoint, info: ConsumerInfo) -> bool:
    """Whether the store may lack something that was acknowledged, by the state that belongs to the
    consumer."""
    return state.delivered == UNKNOWN or acknowledged_deliveries(info) > state.delivered


def has_others(stream: StreamInfo, info: ConsumerInfo) -> bool:
    """Whether the stream may have messages that the consumer leaves out."""
    filters, subjects = info.config.filters, stream.config.subjects
    if not filters:
        return False
    return not subjects or any(
        not any(covers(one, subject) for one in filters) for subject in subjects
    )


class Lack:
    """What the store lacks, as it is found in the stream or not.

    Without other messages in the stream, what is not found there is gone. With others it cannot be
    told which sequences these are: then what was acknowledged is counted, by the deliveries.

    Args:
        through: the stream sequence up to which it is looked for.
        deliveries: how many there were of it, at most; more where some came several times.
        has_others: whether the stream has messages that the consumer leaves out.

    Attributes:
        left: how many of the deliveries were neither found nor counted as gone.
    """

    def __init__(self, through: int, deliveries: int, *, has_others: bool) -> None:
        self.left = deliveries
        self._through = through
        self._has_others = has_others
        self._span: tuple[int, int] | None = None

    @classmethod
    def of(
        cls, state: Checkpoint, info: ConsumerInfo, through: int, *, has_others: bool
    ) -> Self | None:
        """What a store with this state lacks; None where that cannot be counted.

        Args:
            state: belongs to the consumer.
            info: the consumer.
            through: up to which stream sequence something is missing.
            has_others: see above.
        """
        if state.delivered == UNKNOWN:
            return None
        if not has_others:
            return cls(through, info.delivered.consumer_seq - state.delivered, has_others=False)
        deliveries = acknowledged_deliveries(info) - state.delivered
        return cls(through, deliveries, has_others=True) if deliveries > 0 else None

    def looked(self, first: int, last: int, messages: Sequence[Message]) -> list[Gone]:
        """A part of the stream was looked at.

        Args:
            first, last: the part.
            messages: all that it has for the consumer.

        Returns:
            What is gone of it, where that can be told already; see ``ended``.
        """
        last = min(last, self._through)
        if last < first:
            return []
        found = [message.stream_seq for message in messages if message.stream_seq <= last]
        self.left = max(0, self.left - len(found))
        if self._has_others:
            self._span = (first if self._span is None else self._span[0], last)
            return []
        return [gone for bounds in _between(first, last, found) if (gone := self._count(*bounds))]

    def ended(self) -> list[Gone]:
        """All was looked at: what is gone beside that."""
        if self._span is None or not self.left:
            return []
        return [gone] if (gone := self._count(*self._span)) else []

    def _count(self, first: int, last: int) -> Gone | None:
        messages = min(last - first + 1, self.left)
        self.left -= messages
        return Gone(first, last, messages) if messages else None


def _between(first: int, last: int, found: Sequence[int]) -> list[tuple[int, int]]:
    """The ranges within ``first..last`` that have none of these sequences."""
    ranges = []
    for seq in [*found, last + 1]:
        if first < seq:
            ranges.append((first, seq - 1))
        first = seq + 1
    return ranges
