"""Messages that are gone for good: what has lost them, and everybody who tells of it, says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gone:
    """Messages that nobody has any more.

    Attributes:
        first, last: the stream sequences among which they were; inclusive.
        messages: how many; at most, where the stream has messages that the partition does not read.
    """

    first: int
    last: int
    messages: int

    def __str__(self) -> str:
        span = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        if self.messages == self.last - self.first + 1:
            return span
        return f"up to {self.messages} of {span}"


def told(gone: Sequence[Gone]) -> str:
    """What is gone, for people."""
    messages = sum(one.messages for one in gone)
    return (
        f"{messages} messages are gone, which neither Redis nor the stream has any more: sequences"
        f" {', '.join(map(str, gone))}"
    )
