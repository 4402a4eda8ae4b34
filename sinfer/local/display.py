"""Windows as `sinfer run` prints them: members, request, response, results and timings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from sinfer.encoding import from_json, to_json
from sinfer.local.trace import Call, ProcessedWindow
from sinfer.logging.masking import mask
from sinfer.windows.dead_letters import DeadLetter

_MEMBERS = 3
_WIDTH = 160


def as_text(value: Any) -> str:
    """A request, response or result in one line."""
    try:
        return mask(to_json(_plain(value)).decode())
    except (TypeError, ValueError, msgspec.EncodeError):
        return mask(repr(value))


def _plain(value: Any) -> Any:
    """What a client sent or returned, without what JSON has no form for; bytes as text."""
    if is_dataclass(value) and not isinstance(value, type):
        found = getattr(value, "outputs", None)
        return _plain({"outputs": found} if found is not None else asdict(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value


def payload(data: bytes) -> str:
    """A message's payload in one line."""
    return " ".join(data.decode("utf-8", "backslashreplace").split())


def lines_of(found: ProcessedWindow, *, full: bool) -> Iterator[str]:
    """A window for people.

    Args:
        found: the window. Another try of one that was shown leaves out what is known.
        full: whether to show all of it, however long. What went wrong is never cut.
    """

    yield f"── {found.id}: {_what(found)}"
    yield from _messages(found, full)
    for call in found.calls[found.earlier_calls :]:
        yield _cut(f"   request   {as_text(call.request)}", full)
        if call.error is None:
            yield _cut(f"   response  {as_text(call.response)}", full)
        else:
            yield f"   failed    {_error(call)}"
    for result in found.results if full else found.results[:_MEMBERS]:
        yield _cut(f"   result    {as_text(result)}", full)
    if not full and len(found.results) > _MEMBERS:
        yield f"             … and {len(found.results) - _MEMBERS} more"
    for text in reasons(found.dead, full=full):
        yield f"   dead      {text}"
    if found.waits_for:
        yield f"   waits     {_waiting(found)}"
    if found.seconds:
        steps = (f"{step} {1000 * seconds:.1f} ms" for step, seconds in found.seconds.items())
        yield f"   time      {', '.join(steps)}"


def _cut(text: str, full: bool) -> str:
    return text if full or len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _messages(found: ProcessedWindow, full: bool) -> Iterator[str]:
    window = found.window
    members = [] if window is None or found.tries > 1 else list(window.messages)
    shown = members if full else members[:_MEMBERS]
    names_subject = len({message.subject for message in members}) > 1
    for message in shown:
        place = f"{message.stream_seq} {message.subject}" if names_subject else message.stream_seq
        yield _cut(f"   message   {place}: {payload(message.data)}", full)
    if len(members) > len(shown):
        yield f"             … and {len(members) - len(shown)} more"


def _waiting(found: ProcessedWindow) -> str:
    """What a window waits for, unless its last call has said that."""
    known = found.calls and found.calls[-1].error is not None and not found.refused
    reason = "" if known else f": {mask(found.waits_for)}"
    if found.is_excused:
        return f"for another try; this one does not count as an attempt{reason}"
    return f"for attempt {found.attempts + 1}{reason}"


def reasons(dead: Iterable[DeadLetter], *, full: bool) -> Iterator[str]:
    """Why messages were given up: each reason once, with the messages that share it.

    Args:
        dead: the messages.
        full: whether to name all of them.
    """
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for letter in dead:
        groups[letter.stage, letter.error].append(letter.message.stream_seq)
    for (stage, error), sequences in groups.items():
        named = sequences if full else sequences[:_MEMBERS]
        rest = len(sequences) - len(named)
        more = f" and {rest} more" if rest else ""
        yield f"{', '.join(map(str, named))}{more}: {stage}: {mask(error)}"


def _what(found: ProcessedWindow) -> str:
    window = found.window
    parts = [f"{found.messages} message{'s' if found.messages != 1 else ''}"]
    if window is not None:
        parts.append(f"closed by {window.close_reason}")
        if window.key != "all":
            parts.append(f"key {window.key}")
        if window.start is not None and window.end is not None:
            parts.append(f"[{_time(window.start)}, {_time(window.end)})")
        if window.revision:
            parts.append(f"revision {window.revision}")
    if found.tries > 1:
        tries = "" if found.tries == found.attempts else f" (tried {found.tries} times)"
        parts.append(f"attempt {found.attempts}{tries}")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:g} s"


def _error(call: Call) -> str:
    return mask(f"{type(call.error).__name__}: {call.error}")


def as_dict(found: ProcessedWindow) -> dict[str, Any]:
    """A window for programs."""
    window = found.window
    return {
        "id": found.id,
        "key": None if window is None else window.key,
        "start": None if window is None else window.start,
        "end": None if window is None else window.end,
        "close_reason": None if window is None else window.close_reason,
        "revision": None if window is None else window.revision,
        "attempts": found.attempts,
        "tries": found.tries,
        "is_done": found.is_done,
        "waits_for": mask(found.waits_for),
        "messages": [
            {"seq": message.stream_seq, "subject": message.subject, "data": _decoded(message.data)}
            for message in (() if window is None else window.messages)
        ],
        "calls": [
            {
                "request": _jsonable(call.request),
                "response": _jsonable(call.response),
                "error": None if call.error is None else _error(call),
                "seconds": call.seconds,
            }
            for call in found.calls
        ],
        "results": found.results,
        "dead": [
            {"seq": d.message.stream_seq, "stage": d.stage, "error": d.error} for d in found.dead
        ],
        "seconds": dict(found.seconds),
    }


def _decoded(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:
        return payload(data)


def _jsonable(value: Any) -> Any:
    try:
        return from_json(to_json(_plain(value)))
    except (TypeError, ValueError, msgspec.EncodeError):
        return mask(repr(value))
