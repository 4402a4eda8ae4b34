"""Whether the redis_stream sink could append: its commands, each in a form that Redis refuses."""

from __future__ import annotations

import hashlib
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sinfer.types.check import Checked, connection_problem

_NO_SCRIPT = hashlib.sha1(b"sinfer check", usedforsecurity=False).hexdigest()


def _dry_calls(stream: str, marker: str) -> list[tuple[str, ...]]:
    """The commands of ``append.lua``, with arguments that are refused before anything is
    written. Permissions, memory and the role of the server are looked at before arguments."""
    return [
        ("XADD", stream, "0-0", "id", ""),  # the id is too small
        ("GET", marker),
        ("GETBIT", marker, "0"),
        ("SETBIT", marker, "-1", "1"),  # no such bit
        ("SET", marker, "", "PX", "0"),  # no such time
        ("PEXPIRE", marker, "never"),  # no number
        ("SCRIPT", "LOAD", "("),  # no Lua
        ("EVALSHA", _NO_SCRIPT, "0"),  # no such script
    ]


async def checked_stream(redis: Redis, stream: str, marker: str, place: str) -> list[Checked]:
    """Ask a server whether it would append to a stream, and append nothing.

    Args:
        redis: the connection.
        stream: the stream's key.
        marker: a key as the sink has them beside the stream.
        place: the server, for people.
    """
    calls = _dry_calls(stream, marker)
    pipeline = redis.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call)
    try:
        answers = await pipeline.execute(raise_on_error=False)
        kind = (await _kind(redis, stream)) or "none"
    except (RedisError, OSError) as error:
        return [_no_connection(error, place)]
    found = _refusals(calls, answers, place)
    if kind not in ("none", "stream"):
        text = f"{place}: key {stream!r} is a {kind} and no stream; name another one"
        found.append(Checked("error", text, "stream"))
    state = "is there" if kind == "stream" else "is made by the first result"
    return found or [Checked("ok", f"{place}: stream {stream!r} {state}")]


async def _kind(redis: Redis, key: str) -> str | None:
    """The type of a key; None where this user may not ask."""
    try:
        kind: Any = await redis.type(key)
    except NoPermissionError:
        return None
    return str(kind.decode())


def _refusals(calls: list[tuple[str, ...]], answers: list[object], place: str) -> list[Checked]:
    forbidden = [
        call[0] for call, answer in zip(calls, answers, strict=True)
        if isinstance(answer, NoPermissionError)
    ]  # fmt: skip
    if forbidden:
        reason = next(str(answer) for answer in answers if isinstance(answer, NoPermissionError))
        names = ", ".join(forbidden)
        text = f"{place}: this user may not {names} ({reason}); allow it, or name another user"
        return [Checked("error", text, "url")]
    first = answers[0]
    if isinstance(first, OutOfMemoryError) or str(first).startswith("OOM"):
        text = f"{place} is full and takes nothing; raise its maxmemory, or set maxlen"
        return [Checked("unreachable", text, "url")]
    if isinstance(first, ReadOnlyError):
        return [Checked("error", f"{place} is a replica, which takes no writes", "url")]
    if str(first).startswith("MISCONF"):
        return [Checked("unreachable", f"{place} takes no writes: {first}", "url")]
    return []


def _no_connection(error: Exception, place: str) -> Checked:
    if isinstance(error, AuthenticationError):
        text = f"{place} refuses the user or password ({error}); correct them"
        return Checked("error", text, "url")
    is_away = isinstance(error, RedisConnectionError | RedisTimeoutError | OSError)
    if is_away and (found := connection_problem(error)) is not None:
        return found._replace(text=f"{place} {found.text}", field="url")
    return Checked("unreachable", f"{place}: {error}", "url", is_silent=is_away)
