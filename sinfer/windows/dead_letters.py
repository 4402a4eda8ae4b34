"""Dead letters: messages that could not be processed, with the reason and their original bytes."""

from __future__ import annotations

from typing import NamedTuple, Self

import msgspec

from sinfer.logging.masking import one_line as one_line
from sinfer.types.message import Message
from sinfer.windows.stages import Stage as Stage
from sinfer.windows.window import CloseReason

_MOST_HISTORY = 20
_UNREADABLE = "this dead letter cannot be read"


class DeadEntry(NamedTuple):
    """A dead letter's name in the stream of its partition; later ones are greater."""

    ms: int
    number: int

    @classmethod
    def of(cls, name: bytes) -> Self:
        """Read it as Redis writes it."""
        ms, _, number = name.partition(b"-")
        return cls(int(ms), int(number))

    def __str__(self) -> str:
        return f"{self.ms}-{self.number}"


class Failed(msgspec.Struct, array_like=True, frozen=True):
    """An earlier time that a message was given up, before it was redriven.

    Attributes:
        stage: where it failed.
        error: what went wrong, in one line.
        time_ms: when, milliseconds since the epoch.
        attempts: how often its window was tried then.
    """

    stage: Stage
    error: str
    time_ms: int
    attempts: int


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """The window that a dead letter comes from, as products and sinks see it.

    Attributes:
        key: the key of its items.
        start_ms, end_ms: its bounds, milliseconds since the epoch; None for count windows.
        reason: why it closed.
        revision: how often it had fired before.
        count: messages in it.
    """

    key: str
    start_ms: int | None
    end_ms: int | None
    reason: CloseReason
    revision: int
    count: int


class DeadLetter(msgspec.Struct, array_like=True, frozen=True):
    """One message that was given up, and why.

    Attributes:
        message: as it was delivered, bytes and headers included.
        stage: where it failed.
        error: what went wrong, in one line.
        time_ms: when it was given up, milliseconds since the epoch.
        window: id of its window, where it had one.
        attempts: how often its window was tried.
        ordinal: its place among the window's messages, from 0; -1 where it had no window.
        origin: its window, where it had one.
        history: how it failed before it was redriven, the oldest first.
        incarnation: of the source when it was read; see ``sinfer.store.partition.incarnation``.
    """

    message: Message
    stage: Stage
    error: str
    time_ms: int
    window: str = ""
    attempts: int = 0
    ordinal: int = -1
    origin: Origin | None = None
    history: list[Failed] = []
    incarnation: str = ""

    @property
    def whole_history(self) -> list[Failed]:
        """How it failed up to now, the oldest first and this time last; at most 20 times."""
        now = Failed(self.stage, self.error, self.time_ms, self.attempts)
        return [*self.history, now][-_MOST_HISTORY:]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def pack_dead_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter for the store."""
    return _encoder.encode(letter)


def unpack_dead_letter(blob: bytes) -> DeadLetter:
    """Decode a dead letter. One that cannot be read, as of another version, becomes a letter that
    says so and has the stored bytes for a message; see ``is_readable``."""
    try:
        return _decoder.decode(blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return DeadLetter(Message(blob), "window", one_line(f"{_UNREADABLE}: {error}"), 0)


def is_readable(letter: DeadLetter) -> bool:
    """Whether it is what was stored, and its message the one that was given up."""
    return not (letter.time_ms == 0 and letter.error.startswith(_UNREADABLE))
