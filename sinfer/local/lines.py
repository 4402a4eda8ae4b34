"""Messages in files of lines, for `sinfer run` and `sinfer publish`.

A line is the payload of a message, or with the form ``message`` an object::

    {"data": {"id": 1}, "subject": "in.w1", "headers": {"X": "1"}, "time": 1700000000.5}

``data`` is the payload: a text as it is, anything else as JSON. ``time`` is when JetStream stored
it, in seconds since the epoch or ISO 8601. All but ``data`` may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from sinfer.encoding import from_json, to_json
from sinfer.errors import ConfigError
from sinfer.types.message import Message

Form = Literal["data", "message"]


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the form ``message``."""

    data: Any
    subject: str = ""
    headers: dict[str, str] | None = None
    time: float | datetime | None = None


_decoder = msgspec.json.Decoder(_Line)


def lines_of(path: str) -> Iterator[bytes]:
    """The lines of a file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            yield from file
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def messages_in(lines: Iterable[bytes], form: Form, where: str) -> Iterator[Message]:
    """The messages of lines; empty lines are skipped.

    Args:
        lines: with or without their ends.
        form: what a line holds.
        where: what to call the file.

    Raises:
        ConfigError: a line is none of the form; the text has its number.
    """
    for number, line in enumerate(lines, 1):
        line = line.rstrip(b"\r\n")
        if line.strip():
            yield message_of(line, form, f"{where}, line {number}", number)


def message_of(line: bytes, form: Form, where: str, number: int = 0) -> Message:
    """The message of one line; the line's number is its stream sequence.

    Raises:
        ConfigError: it is none of the form.
    """
    if form == "data":
        return Message(line, stream_seq=number)
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f'{where}: is no {{"data": ..., "subject": ...}}: {error}') from None
    data = found.data.encode() if isinstance(found.data, str) else to_json(found.data)
    return Message(data, found.subject, found.headers, number, _nanoseconds(found.time))


def line_of(message: Message) -> str:
    """The line of a message, in the form ``message``: what ``message_of`` reads."""
    try:
        data = from_json(message.data)
        if isinstance(data, str):  # would be taken for the payload as it is
            data = message.data.decode()
    except ValueError:
        data = message.data.decode()
    return to_json({"subject": message.subject, "data": data}).decode()


def _nanoseconds(time: float | datetime | None) -> int:
    if isinstance(time, datetime):
        aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1e6) * 1000
    return 0 if time is None else round(time * 1e6) * 1000
