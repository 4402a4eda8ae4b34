"""How far a partition was read: stored with each commit, in the same step."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import structs

UNKNOWN = -1


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """What is committed of one partition; opaque to the store that keeps it.

    Attributes:
        stream_created: when the stream was made, as its server writes it: the stream's identity.
        position: every matching message with a stream sequence up to here is committed.
        ahead: committed ranges of stream sequences above the position: inclusive, sorted, merged.
            Always empty where messages come in order.
        consumer_created: when the durable consumer was made; empty without one.
        forgotten: of the messages up to this stream sequence some were done before the store was
            wiped; those that were not are delivered again. 0 where nothing was ever forgotten.
        delivered: the durable consumer's deliveries up to this number are of messages that are
            committed, or come again. Less than the truth is harmless. ``UNKNOWN`` where an earlier
            version did not note it.
        removed: the latest ranges of stream sequences that were removed from the stream before they
            were read; see ``source.removals``.
    """

    stream_created: str
    position: int
    ahead: list[tuple[int, int]] = []
    consumer_created: str = ""
    forgotten: int = 0
    delivered: int = UNKNOWN
    removed: list[tuple[int, int]] = []

    def read_through(self, stream_seq: int) -> list[tuple[int, int]]:
        """What was read of all up to a stream sequence: inclusive ranges.

        What is missing between them was delivered to nobody yet, or to an earlier reader that
        failed to store it, and comes again.
        """
        ranges = [(1, self.position), *self.ahead]
        return [
            (first, min(last, stream_seq))
            for first, last in ranges
            if first <= min(last, stream_seq)
        ]

    def without(self, stream_seqs: Iterable[int]) -> Checkpoint:
        """The state before these messages were read, and after all others that this one counts.

        Args:
            stream_seqs: of messages that were read and are not stored yet.
        """
        unread = sorted(stream_seqs)
        if not unread:
            return self
        ahead: list[tuple[int, int]] = []
        place = 0
        for first, last in [(1, self.position), *self.ahead]:
            while place < len(unread) and unread[place] <= last:
                if unread[place] >= first:
                    ahead.append((first, unread[place] - 1))
                    first = unread[place] + 1
                place += 1
            ahead.append((first, last))
        # Up to here everything was read; what is ahead of it counts only where messages may come in
        # another order than that of the stream, through a durable consumer.
        position = ahead.pop(0)[1]
        ahead = [(first, last) for first, last in ahead if first <= last]
        return structs.replace(
            self, position=position, ahead=ahead if self.consumer_created else []
        )

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """Read what ``pack_checkpoint`` wrote.

        Raises:
            ValueError: it is something else.
        """
        return _decoder.decode(data)


pack_checkpoint = msgspec.msgpack.Encoder().encode
"""A state as it is stored: MessagePack, a few dozen bytes."""

_decoder = msgspec.msgpack.Decoder(Checkpoint)
