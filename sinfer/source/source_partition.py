"""What is read of a stream, for which partition, and from where on."""

from __future__ import annotations

from dataclasses import dataclass

from sinfer.source.checkpoint import Checkpoint
from sinfer.source.config import JetStreamSource


@dataclass(frozen=True, slots=True)
class SourcePartition:
    """What a partition reads.

    Attributes:
        source: the source of the task.
        subject: one of ``source.partition_subjects``; ``>`` for all.
        name: of the partition, unique and the same forever: consumers' names are made of it.
        state: what was stored with the last commit; None when there was none.
        by_event_time: whether a message behind newer ones may be late. After the store was wiped,
            all behind a durable's ack floor is then read before any other message.
        begins_behind: without a state, begin behind this stream sequence, whatever the source says:
            so far others have read it.
        start: the number of this start, or, with a state, of the start that it is of.
    """

    source: JetStreamSource
    subject: str
    name: str
    state: Checkpoint | None = None
    by_event_time: bool = False
    start: int = 0
    begins_behind: int | None = None
