"""Which messages of a durable consumer were read, whatever order they come in.

A consumer delivers each message for the first time in the order of the stream, and numbers its
deliveries. Redeliveries come between, in any order. Stream sequences alone do not tell a message
that is missing from one that the consumer's filter leaves out:

    stream sequence   1   2   3   4   5   6   7        filter matches 1, 3, 6, 7
    consumer number   1       2           3   4

Two first deliveries whose numbers follow each other have nothing between them, so 1 and 3 read
means 1 to 3 read. After a gap in the numbers that is not known: what lies between is missing, and
has to be read from the stream before the message counts, so that all is read in order. Where the
stream cannot be asked, the message counts alone, until the consumer's ack floor or the stream
tells what lies between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sinfer.source.ranges import RangeSet

_UNKNOWN = -1
"""The stream sequence of the first delivery before, where that is not known."""


class DeliveryTracker:
    """The sequences that were read: all up to ``position``, and ranges ahead of it.

    Args:
        position: every matching message up to this stream sequence was read.
        ahead: ranges above it that were read as well.

    Attributes:
        position: see above.
        skipped: told of sequences between two first deliveries that follow each other, where
            somebody wants to know of them.
    """

    __slots__ = ("_ahead", "_expected", "_is_ahead", "_previous", "_reached", "position", "skipped")

    def __init__(self, position: int, ahead: Iterable[tuple[int, int]] = ()) -> None:
        self.position = position
        self.skipped: Callable[[int, int], None] | None = None
        self._ahead = RangeSet(ahead)
        self._is_ahead = bool(self._ahead)
        self._expected: int | None = None
        self._previous = _UNKNOWN
        self._reached = max(position, self._ahead.maximum or 0)
        self.settle(position)

    @property
    def ahead(self) -> list[tuple[int, int]]:
        """Ranges above the position, inclusive, sorted and merged."""
        return list(self._ahead) if self._is_ahead else []

    @property
    def gap(self) -> tuple[int, int] | None:
        """The lowest sequences that may not have been read although later ones were."""
        if not self._is_ahead or (first := self._ahead.first) is None:
            return None
        return self.position + 1, first[0] - 1

    def missing(self, above: int, through: int) -> list[tuple[int, int]]:
        """Ranges within ``above + 1 .. through`` that may not have been read."""
        first = max(self.position, above) + 1
        found = []
        for low, high in self._ahead:
            if first > through:
                break
            if first < low:
                found.append((first, min(low - 1, through)))
            first = max(first, high + 1)
        if first <= through:
            found.append((first, through))
        return found

    def fill(self, first: int, last: int) -> None:
        """All of ``first..last`` was read from the stream itself."""
        self.give_up(last)
        self._add(first, last)

    def give_up(self, through: int) -> None:
        """Ask no more for what is missing up to here: it comes again in whatever order."""
        self._reached = max(self._reached, through)

    def missing_before(self, stream_seq: int) -> tuple[int, int]:
        """What is missing before a delivery that was not accepted for that."""
        return self._reached + 1, stream_seq - 1

    def follow(self, consumer_seq: int, stream_seq: int) -> None:
        """The consumer stands here: its next first delivery follows this without a gap."""
        self._expected = consumer_seq + 1
        self._previous = stream_seq

    def lose_track(self) -> None:
        """Deliveries may have been lost: the next one follows nothing."""
        self._expected = None

    def accept(self, delivered: int, stream_seq: int, consumer_seq: int) -> bool | None:
        """Count a delivery; whether its message was not read before.

        Args:
            delivered: how often the message was delivered, this time included.
            stream_seq: its stream sequence.
            consumer_seq: the number of the delivery.

        Returns:
            None when messages before it are missing: nothing was counted; see ``missing_before``.
        """
        new = stream_seq > self.position
        if self._is_ahead:
            new = new and stream_seq not in self._ahead
        follows = consumer_seq == self._expected
        if stream_seq > self._reached:
            known = follows and delivered == 1 and self._previous != _UNKNOWN
            if not known and stream_seq > self._reached + 1:
                return None
            self._reached = stream_seq
        self._expected = consumer_seq + 1
        if delivered != 1:
            if not follows:
                self._previous = _UNKNOWN
            if new:
                self._add(stream_seq, stream_seq)
            return new
        since = stream_seq
        if follows and _UNKNOWN < self._previous < stream_seq:
            since = self._previous + 1
            if since < stream_seq and self.skipped is not None:
                self.skipped(since, stream_seq - 1)
        self._previous = stream_seq
        if since <= self.position + 1 and not self._is_ahead:
            self.position = max(self.position, stream_seq)
        else:
            self._add(since, stream_seq)
        return new

    def settle(self, through: int) -> None:
        """Nothing up to this stream sequence will come any more."""
        self.position = max(self.position, through)
        self._reached = max(self._reached, self.position)
        self._close_up()

    def _add(self, first: int, last: int) -> None:
        self._ahead.add(first, last)
        self._close_up()

    def _close_up(self) -> None:
        while (first := self._ahead.first) is not None and first[0] <= self.position + 1:
            self.position = max(self.position, first[1])
            self._ahead.discard_through(self.position)
        self._is_ahead = bool(self._ahead)
