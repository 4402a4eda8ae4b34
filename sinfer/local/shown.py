"""Windows as `sinfer run` prints them: members, request, response, results and timings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from sinfer.encoding import from_json, to_json
from sinfer.local.trace import Call, ProcessedWindow
from sinfer.masking import mask

_MEMBERS = 3
_WIDTH = 160


def as_text(value: Any) -> str:
    """A request, response or result in one line."""
    try:
        return mask(to_json(_plain(value)).decode())
    except (TypeError, ValueError, msgspec.EncodeError):
        return mask(repr(value))


def _plain(value: Any) -> Any:
    """What a client returned, without what JSON has no form for."""
    if is_dataclass(value) and not isinstance(value, type):
        found = getattr(value, "outputs", None)
        return {"outputs": found} if found is not None else asdict(value)
    return value


def payload(data: bytes) -> str:
    """A message's payload in one line."""
    return " ".join(data.decode("utf-8", "backslashreplace").split())


def lines_of(found: ProcessedWindow, *, full: bool) -> Iterator[str]:
    """A window for people.

    Args:
        found: the window.
        full: whether to show all of it, however long.
    """

    def cut(text: str) -> str:
        return text if full or len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"

    yield f"── {found.id}: {_what(found)}"
    window = found.window
    members = [] if window is None else list(window.messages)
    shown = members if full else members[:_MEMBERS]
    for message in shown:
        yield cut(f"   message   {message.stream_seq}: {payload(message.data)}")
    if len(members) > len(shown):
        yield f"             … and {len(members) - len(shown)} more"
    for call in found.calls:
        yield cut(f"   request   {as_text(call.request)}")
        if call.error is None:
            yield cut(f"   response  {as_text(call.response)}")
        else:
            yield cut(f"   failed    {_error(call)}")
    for result in found.results if full else found.results[:_MEMBERS]:
        yield cut(f"   result    {as_text(result)}")
    if not full and len(found.results) > _MEMBERS:
        yield f"             … and {len(found.results) - _MEMBERS} more"
    for letter in found.dead:
        yield cut(f"   dead      {letter.message.stream_seq}: {letter.stage}: {letter.error}")
    if found.waits_for:
        yield cut(f"   waits     {mask(found.waits_for)}")
    if found.seconds:
        steps = (f"{step} {1000 * seconds:.1f} ms" for step, seconds in found.seconds.items())
        yield f"   time      {', '.join(steps)}"


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
    if found.attempts > 1:
        parts.append(f"attempt {found.attempts}")
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
