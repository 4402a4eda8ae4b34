"""What partitions that a task had before have read: those it has now begin where these ended.

A task may read ``s.>`` today, and ``s.a`` and ``s.b`` tomorrow. Each message belongs to one
partition of the day. So a partition that is given up leaves a mark (``ReadMarks``), up to where it
was read; a new one waits for those marks whose subjects overlap its own, begins behind them, and
passes over what they have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from msgspec import structs
from nats.aio.client import Client

from sinfer.aio.wait import wait_for_event
from sinfer.errors import UnavailableError
from sinfer.ingest.ingestor import Ingestor
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.subjects import covers, overlap
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.source.config import JetStreamSource
from sinfer.source.ranges import RangeSet
from sinfer.store.boards.read_marks import Marks, ReadMarks
from sinfer.store.partition.snapshot import snapshot
from sinfer.windows.ids import Scope

_POLL_S = 0.25


@dataclass(frozen=True)
class Predecessors:
    """What others have read of a partition's subject.

    Attributes:
        subject: of the partition.
        marks: how far each of them was read, by its subject.
    """

    subject: str
    marks: Mapping[str, Checkpoint]

    @classmethod
    async def of(
        cls, ingestor: Ingestor, client: Client, scope: Scope, source: JetStreamSource
    ) -> Self:
        """Look who they are.

        Args:
            ingestor: what it shares with the partitions of the ingestor.
            client: the connection to the source.
            scope: the partition.
            source: of its task.

        Raises:
            UnavailableError: one of them is not given up yet.
            SourceError: the stream cannot be looked at.
        """
        board = ReadMarks(ingestor.store, scope.product, scope.task)
        marks = await board.see()
        await board.open(scope.partition)
        if (other := await not_given_up(ingestor, scope, source, marks)) is not None:
            raise UnavailableError(f"{scope} waits until {other} is given up")
        marks = await board.see()  # what was given up meanwhile has left its mark
        read = {
            subject: Checkpoint.decode(mark)
            for subject, mark in marks.read.items()
            if overlap(subject, scope.partition)
        }
        if not read:
            return cls(scope.partition, {})
        created = (await JetStreamApi(client, source.stream).stream_info()).created
        return cls(
            scope.partition,
            {subject: mark for subject, mark in read.items() if mark.stream_created == created},
        )

    def begins_behind(self, source: JetStreamSource) -> int | None:
        """Behind which stream sequence a partition begins that was never read; None where that is
        for its source to say."""
        whole = [m.position for name, m in self.marks.items() if covers(name, self.subject)]
        if whole:
            return max(whole)
        if not self.marks or source.deliver == "all":
            return None  # nobody has read all of its subjects
        return min(mark.position for mark in self.marks.values())

    def without_taken(self, batch: Batch) -> Batch:
        """A batch without what others have."""
        taken = self._taken
        last = max((ranges.maximum or 0 for ranges in taken.values()), default=0)
        if all(message.stream_seq > last for message in batch.messages):
            return batch
        rest = [
            message
            for message in batch.messages
            if not any(
                message.stream_seq in ranges and covers(subject, message.subject)
                for subject, ranges in taken.items()
            )
        ]
        return replace(batch, messages=rest)

    @cached_property
    def _taken(self) -> dict[str, RangeSet]:
        """The stream sequences up to which, and in which, each of them has all of its subject."""
        return {subject: _read(mark) for subject, mark in self.marks.items()}


def _read(*checkpoints: Checkpoint) -> RangeSet:
    return RangeSet(part for one in checkpoints for part in ((1, one.position), *one.ahead))


def joined(earlier: bytes | None, checkpoint: bytes) -> bytes:
    """A mark of all that a partition has read, before it was given up the last time as well: a new
    start of it does not know of that.

    Args:
        earlier: its mark as it is; None where it has none.
        checkpoint: how far it was read this time.
    """
    one = Checkpoint.decode(checkpoint)
    other = one if earlier is None else Checkpoint.decode(earlier)
    if other.stream_created != one.stream_created:
        return checkpoint
    position, *ahead = _read(one, other) or [(1, 0)]
    if position[0] > 1:
        position, ahead = (1, 0), [position, *ahead]
    return pack_checkpoint(structs.replace(one, position=position[1], ahead=ahead))


async def wait_for_predecessors(
    ingestor: Ingestor, scope: Scope, source: JetStreamSource, stopping: asyncio.Event
) -> None:
    """Wait until nobody reads any more what the partition is about to read, or until told to stop.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    board, is_told = ReadMarks(ingestor.store, scope.product, scope.task), False
    while not stopping.is_set():
        other = await not_given_up(ingestor, scope, source, await board.see())
        if other is None:
            return
        if not is_told:
            text = (
                f"waits until {other} is given up, which the task has read so far, and begins there"
            )
            ingestor.announcements.say(scope, text)
            is_told = True
        await wait_for_event(stopping, _POLL_S)


async def not_given_up(
    ingestor: Ingestor, scope: Scope, source: JetStreamSource, marks: Marks
) -> str | None:
    """A partition that still reads what this one is about to read, or of which nobody has noticed
    yet that it should not; None where there is none."""
    known = set(marks.live)
    if not (marks.live or marks.read):  # of the versions that left no marks
        stored = await ingestor.stored_partitions()
        known = {s.partition for s in stored if (s.product, s.task) == (scope.product, scope.task)}
    for subject in known.difference(source.partition_subjects):
        if overlap(subject, scope.partition):
            seen = await snapshot(ingestor.store, Scope(scope.product, scope.task, subject))
            if seen.checkpoint or seen.writer:
                return subject
    return None
