"""A plan: everything that one batch changes in a partition's windows, decided before any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sinfer.types.message import Message
from sinfer.windows.records import ClosedWindow, WindowRecord


class Entry(NamedTuple):
    """One message that goes into windows.

    Attributes:
        message: the message.
        key: the key of its item.
        time_ms: its event time, milliseconds since the epoch; ignored in processing time.
        item: what ``preprocess`` made of it, for the product's own triggers.
    """

    message: Message
    key: str
    time_ms: int
    item: Any = None


class Append(NamedTuple):
    """A chunk for a segment.

    Attributes:
        segment: its name.
        messages: those of the chunk.
        place: which of the segment's chunks it becomes, from 1; 0 where that does not matter.
    """

    segment: str
    messages: list[Message]
    place: int = 0


@dataclass(slots=True)
class Plan:
    """What a batch changes. The store applies all of it in one step, or nothing.

    Attributes:
        appends: messages to add to segments, in order.
        puts: open windows as they are afterwards, by id.
        opened: which of them are new.
        earlier: ids of windows that have an earlier message than before.
        required: ids of stored windows that must still be open, or the plan is void.
        removed: ids of open windows that are no more: closed, merged or purged.
        closed: windows that closed, in the order of closing.
        refs: change in the number of holders of shared segments, by segment.
        created: the shared segments that are new.
        late: messages that came too late for every window, to be dropped or dead-lettered.
        watermark_ms: the watermark afterwards; None before the first item, and for types that
            follow the clock alone.
        shares: whether windows share segments, so that messages count as done only when nothing
            holds their segment any more.
    """

    appends: list[Append] = field(default_factory=list)
    puts: dict[str, WindowRecord] = field(default_factory=dict)
    opened: set[str] = field(default_factory=set)
    earlier: set[str] = field(default_factory=set)
    required: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    closed: list[ClosedWindow] = field(default_factory=list)
    refs: dict[str, int] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    late: list[Message] = field(default_factory=list)
    watermark_ms: int | None = None
    shares: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it changes no window."""
        return not (self.appends or self.puts or self.removed or self.closed or self.refs)
