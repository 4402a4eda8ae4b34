"""What a partition has in the hands of a product's code at the moment, as other threads see it."""

from __future__ import annotations

from sinfer.types.message import Message

SUSPECTED = 2
"""Deaths of writers in a row after which what was in hand is looked at with care."""


class Hand:
    """Written by the thread that calls the hooks, without a lock: each attribute for itself.

    Attributes:
        hook: which hook is called, or was last.
        message: which message it is called for; None where it is one of several.
        since_s: since when hooks are called without a break, by the monotonic clock; 0.0 while
            none is. A slice of messages counts as one call, so it is a little too early.
    """

    __slots__ = ("hook", "message", "since_s")

    def __init__(self) -> None:
        self.hook = ""
        self.message: Message | None = None
        self.since_s = 0.0


def pack_hand(first_seq: int, last_seq: int) -> bytes:
    """Stream sequences, the least and the greatest, as a writer notes them in the store."""
    return b"%d %d" % (first_seq, last_seq)


def unpack_hand(noted: bytes) -> tuple[int, int] | None:
    """The inverse; None when nothing, or nothing that can be read, was noted."""
    try:
        first, last = (int(word) for word in noted.split())
    except ValueError:
        return None
    return first, last
