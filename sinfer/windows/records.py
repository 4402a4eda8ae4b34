"""What is kept about a window beside its messages.

A window goes through these states; the store's scripts are the only ones that move it:

    open ───count, bytes, idle, ...──▶ closed ──claim──▶ leased ──complete──▶ (gone: done or dead)
      │                                 ▲  ▲                │
      └──time, gap──▶ sealed ──watermark┘  └─release, expiry┘

A sealed window waits for the watermark of its whole task. Only tasks with several partitions in
event time have such; elsewhere time closes windows at once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import cast, get_args

import msgspec
from msgspec.structs import force_setattr

from sinfer.logging.masking import one_line
from sinfer.windows.reprocessing import Reprocessing
from sinfer.windows.window import CloseReason


class WindowState(enum.StrEnum):
    """Where a window is."""

    OPEN = "open"  # takes messages
    SEALED = "sealed"  # complete; waits for the watermarks of the task's other partitions
    CLOSED = "closed"  # complete; waits for a worker, or for the due time of its next attempt
    LEASED = "leased"  # a worker holds it


class Part(msgspec.Struct, array_like=True, frozen=True):
    """Some chunks of a segment, which several windows share.

    Attributes:
        segment: the segment's name.
        chunks: how many of its chunks, from the first.
    """

    segment: str
    chunks: int


class WindowRecord(msgspec.Struct, array_like=True, gc=False):
    """What the store keeps of a window, opaque to its scripts.

    Attributes:
        key: the key of its items.
        start_ms, end_ms: bounds ``[start, end)`` in milliseconds since the epoch, None for count.
        first_seq, last_seq: least and greatest stream sequence among its messages.
        count: messages in it.
        bytes: sum of their payloads.
        revision: how often it fired already.
        deadline_ms: when beat closes it by the store's clock; 0 for never.
        chunks: chunks in its own segment.
        parts: the segments it is made of; empty when it has only its own.
        shared: whether other windows may hold these segments too.
        deadline_reason: why it closes at its deadline.
        config: which configuration of the task it was opened under; see
            ``sinfer.products.revisions``.
        reprocessing: set when it is processed once more.
        incarnation: of the source when it was opened; see ``store.partition.incarnation``. Empty
            where it was opened by a version that did not know it.
        repeats_to: results of messages up to this stream sequence may be in sinks already, since
            Redis was wiped and messages are read again.
        first_ms: when its first item arrived, by the store's clock; 0 where it was opened while the
            task had no ``deadline``.
        version: of the pipeline that opened it; empty where that named none.
    """

    key: str
    start_ms: int | None
    end_ms: int | None
    first_seq: int
    last_seq: int
    count: int = 0
    bytes: int = 0
    revision: int = 0
    deadline_ms: int = 0
    chunks: int = 0
    parts: tuple[Part, ...] = ()
    shared: bool = False
    deadline_reason: CloseReason = "time"
    config: str = ""
    reprocessing: Reprocessing | None = None
    incarnation: str = ""
    repeats_to: int = 0
    first_ms: int = 0
    version: str = ""


class ClosedWindow(msgspec.Struct, frozen=True):
    """A window that takes no more messages.

    Attributes:
        id: its id, revision included.
        record: its description.
        reason: why it closed.
        closed_ms: when, by the store's clock; 0 until it is stored.
        problem: why what is stored of it cannot be read; empty when it can. Then ``record`` is no
            more than what can be told of it.
        public_id: the id that products and sinks see; another only where it is processed again.
        base_id: the public id without its revision.
        run: which rerun of a finished window it is; empty where it is none.
        parts: the segments that hold its messages, in order.

    The last four follow from the others.
    """

    id: str
    record: WindowRecord
    reason: CloseReason
    closed_ms: int = 0
    problem: str = ""
    public_id: str = ""
    base_id: str = ""
    run: str = ""
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        record, again = self.record, self.record.reprocessing
        public_id = self.id if again is None else again.id
        run = self.id.rpartition("~")[2] if again is not None and again.kind == "rerun" else ""
        force_setattr(self, "public_id", public_id)
        force_setattr(self, "base_id", base_id(public_id, record))
        force_setattr(self, "run", run)
        force_setattr(self, "parts", record.parts or (Part(self.id, record.chunks),))

    @property
    def shares_segments(self) -> bool:
        """Whether other windows may need its segments."""
        return self.record.shared


def base_id(window_id: str, record: WindowRecord) -> str:
    """The id of a window without its revision; count and session windows have none."""
    has_revision = window_id.count("/") == 4
    return window_id.rpartition("/")[0] if has_revision else window_id


DUE = "due"
"""Stored instead of a reason by beat, for which records are opaque: it is in the record."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(WindowRecord)
_FIELDS = msgspec.structs.fields(WindowRecord)
_REASONS = get_args(CloseReason)
_LATEST = 2**63 - 1
_DIGITS = 18


pack_record: Callable[[WindowRecord], bytes] = _encoder.encode
"""Encodes a record for the store."""


def unpack_record(blob: bytes) -> WindowRecord:
    """Decode a record, or what can be read of it; see ``read_record``."""
    return read_record(blob)[0]


def read_record(blob: bytes) -> tuple[WindowRecord, str]:
    """Decode a record.

    One that another version wrote, or that was damaged, harms no other: of that as much is read as
    can be. What cannot be told of it is chosen so that nothing is lost by it: no message counts as
    done that may be in it.

    Returns:
        The record, and why it cannot be read; that is empty when it can.
    """
    try:
        return _decoder.decode(blob), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem = one_line(f"its record cannot be read: {error}")
    record = WindowRecord("", None, None, 0, _LATEST)
    try:
        values = msgspec.msgpack.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return record, problem
    for field, value in zip(_FIELDS, values if isinstance(values, list) else (), strict=False):
        try:
            setattr(record, field.name, msgspec.convert(value, field.type))
        except msgspec.ValidationError:
            continue
    return record, problem


def unpack_closed(window_id: bytes, value: bytes) -> ClosedWindow:
    """Decode what the store keeps of a closed window: ``reason closed_ms record``.

    As with records, what cannot be read is told in ``problem``, and raises nothing.
    """
    name = window_id.decode(errors="replace")
    words = value.split(b" ", 2)
    record, problem = read_record(words[-1] if len(words) == 3 else b"")
    found, closed_ms = words[0].decode(errors="replace"), 0
    reason = record.deadline_reason if found == DUE else cast("CloseReason", found)
    if reason not in _REASONS:
        problem = problem or one_line(f"it closed for a reason that is not known: {found}")
        reason = "drain"
    if len(words) == 3 and words[1].isdigit():
        closed_ms = int(words[1][:_DIGITS])
    else:
        problem = problem or "it is not known when it closed"
    return ClosedWindow(name, record, reason, closed_ms, problem)
