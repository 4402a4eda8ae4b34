"""Dead letters: messages that could not be processed, with the reason and their original bytes."""

from __future__ import annotations

from typing import Literal

import msgspec

from sinfer.messages import Message

Stage = Literal["preprocess", "window", "request", "inference", "results", "sink"]

_MOST_REASON_CHARACTERS = 500


def one_line(text: str) -> str:
    """A reason as it can be stored and shown: one line of valid Unicode, at most 500 characters."""
    text = text[: 4 * _MOST_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return " ".join(text.split())[:_MOST_REASON_CHARACTERS]


class DeadLetter(msgspec.Struct, array_like=True, frozen=True):
    """One message that was given up, and why.

    Attributes:
        message: as it was delivered, bytes and headers included.
        stage: where it failed.
        error: what went wrong, in one line.
        time_ms: when it was given up, milliseconds since the epoch.
        window: id of its window, where it had one.
        attempts: how often its window was tried.
    """

    message: Message
    stage: Stage
    error: str
    time_ms: int
    window: str = ""
    attempts: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeadLetter)


def pack_dead_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter for the store."""
    return _encoder.encode(letter)


def unpack_dead_letter(blob: bytes) -> DeadLetter:
    """Decode a dead letter."""
    return _decoder.decode(blob)
