"""What a stream removed of a partition before it was read: by its limits, or by somebody's hand.

Sequences alone tell it where the consumer delivers all subjects of the stream: then each number has
a message, and one that is not delivered is gone. Where a filter leaves messages out, nobody knows
any more of which subjects those were that are gone; how many were the partition's is told by its
share of what the stream has yet.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress

from msgspec import structs

from sinfer.errors import UnavailableError
from sinfer.logging.throttled import Throttled
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import StreamInfo
from sinfer.nats.subjects import EVERYTHING, covers
from sinfer.source.batch import Batch

_log = logging.getLogger(__name__)

_MOST_RANGES = 32
"""The latest are kept, for whoever looks for a message."""

_LONG_S = 0.5
"""A reader that is behind for so long may be overtaken by the limits of the stream."""

_SUSPICIOUS_S = 2.0
"""For so long after it was not asked for anything, gaps are looked into."""

_FEWEST = 5
"""Of a filter that leaves messages out, fewer are within what chance makes of gaps."""

_NONE = (0, -1)
_PROBLEM = "removed"


class Removals:
    """Counts them, until a batch takes the count along.

    Args:
        name: of the partition, for log lines.
        ranges: what was found earlier.

    Attributes:
        ranges: stream sequences that were gone, inclusive, the latest at the end.
        is_exact: whether all subjects of the stream are read, so that a gap in their sequences is a
            message that is gone. Else the reader tells when it begins and ends to wait.
        has_found: whether there is anything for ``judge`` to look at.
    """

    def __init__(self, name: str, ranges: list[tuple[int, int]]) -> None:
        self.ranges = list(ranges)
        self.is_exact = self.has_found = False
        self._name = name
        self._count = 0
        self._told = Throttled(_log)
        self._widest = _NONE
        self._suspicious_s = 0.0
        self._behind_s = float("inf")
        self._ended_s = time.monotonic()

    def look_at(self, stream: StreamInfo, filters: list[str], *, leaves_out: bool = False) -> None:
        """Take note of what is read of the stream.

        Args:
            stream: its settings.
            filters: the subjects that the consumer delivers; empty for all.
            leaves_out: whether the consumer leaves out messages of these by its own choice.
        """
        subjects = stream.config.subjects or [EVERYTHING]
        reads_all = not filters or all(
            any(covers(outer, inner) for outer in filters) for inner in subjects
        )
        self.is_exact = reads_all and not leaves_out

    def note(self, first: int, last: int, count: int | None = None) -> None:
        """These stream sequences are gone.

        Args:
            first, last: inclusive; nothing when ``last`` is less.
            count: how many of them were messages of the partition; all by default.
        """
        count = last - first + 1 if count is None else count
        if last < first or count <= 0:
            return
        self._count += count
        self.has_found = True
        if self.ranges and self.ranges[-1][1] == first - 1:
            self.ranges = [*self.ranges[:-1], (self.ranges[-1][0], last)]
        else:
            self.ranges = [*self.ranges, (first, last)][-_MOST_RANGES:]

    def skipped(self, first: int, last: int) -> None:
        """The consumer delivered nothing of these, which lie between two of its deliveries."""
        if self.is_exact:
            self.note(first, last)
        elif last - first > self._widest[1] - self._widest[0]:
            self._widest = (first, last)
            self.has_found = True

    def begin(self) -> None:
        """The reader is asked for messages."""
        now_s = time.monotonic()
        if now_s - self._ended_s > _LONG_S:
            self._suspicious_s = now_s + _SUSPICIOUS_S

    def end(self, pending: int) -> None:
        """The reader has answered.

        Args:
            pending: how many messages there were behind the last one.
        """
        self._ended_s = time.monotonic()
        if not pending:
            self._behind_s = float("inf")
        elif self._behind_s == float("inf"):
            self._behind_s = self._ended_s

    async def judge(self, batch: Batch, api: JetStreamApi) -> None:
        """Complete a batch with what was removed before it.

        Where a filter leaves messages out, a gap is the rule. It is looked into where the reader
        was behind for long, or not asked for anything: who waits for each message misses none.
        """
        widest, self._widest = self._widest, _NONE
        now_s = time.monotonic()
        is_late = now_s < self._suspicious_s or now_s - self._behind_s > _LONG_S
        if is_late and widest[1] - widest[0] >= _FEWEST:
            with suppress(UnavailableError):
                self._look_into(widest, batch, await api.stream_info())
        batch.discarded = self.take()
        if batch.discarded:
            batch.state = structs.replace(batch.state, removed=self.ranges)

    def _look_into(self, gap: tuple[int, int], batch: Batch, stream: StreamInfo) -> None:
        first, last = gap
        last = min(last, stream.state.first_seq - 1)
        there = batch.pending + sum(m.stream_seq > last for m in batch.messages)
        share = min(1.0, there / max(1, stream.state.messages))
        count = round((last - first + 1) * share)
        if stream.config.retention == "limits" and count >= _FEWEST:
            self.note(first, last, count)

    def estimate(self, stream: StreamInfo, position: int, pending: int) -> None:
        """All from the position to the start of the stream is gone; some was the partition's.

        Args:
            stream: its bounds.
            position: up to where all was read.
            pending: how many messages of the partition the stream has behind the position.
        """
        state = stream.state
        if self.is_exact:
            self.note(position + 1, state.first_seq - 1)
        elif stream.config.retention == "limits" and state.messages:
            gone = state.first_seq - 1 - position
            share = min(1.0, pending / state.messages)
            self.note(position + 1, state.first_seq - 1, round(gone * share))

    def take(self) -> int:
        """How many were found since this was last asked for."""
        count, self._count = self._count, 0
        self.has_found = False
        if count:
            about = "" if self.is_exact else "about "
            first, last = self.ranges[-1]
            self._told.tell(
                f"{self._name}: the stream removed {about}{count} messages before they were read,"
                f" the last of them between sequences {first} and {last}; see `sinfer status`",
                level=logging.ERROR,
                problem=_PROBLEM,
            )
        return count
