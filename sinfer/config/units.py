"""Durations, byte sizes and other values as they are written in a configuration."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.config import JsonDict

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_TEXT = r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+)\s*$"
_SIZE_TEXT = r"^\s*\d*\.?\d+\s*([KkMmGgTtPpEe]([Ii]?[Bb]([Ii][Tt])?)?|[Bb]([Ii][Tt])?)?\s*$"
"""What ``parse_duration`` and pydantic's ``ByteSize`` read, for JSON schemas."""
_FACTOR_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(value: Any) -> timedelta:
    """Read ``"250ms"``, ``"5s"``, ``"1m30s"``, ``"2h"``, ``"1d"`` or a number of seconds.

    Raises:
        ValueError: it is none of these, negative, or not finite.
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, bool):
        raise ValueError("a duration is a number of seconds or a text such as '250ms' or '5s'")
    elif isinstance(value, int | float):
        if not 0 <= value < 1e11:
            raise ValueError("a duration is finite and not negative")
        duration = timedelta(seconds=value)
    elif isinstance(value, str) and (text := value.strip()):
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return parse_duration(float(text))
        parts = _DURATION.findall(text)
        if not parts or _DURATION.sub("", text).strip():
            raise ValueError(f"{value!r} is no duration: write '250ms', '5s', '1m', '2h' or '1d'")
        duration = timedelta(milliseconds=sum(float(n) * _FACTOR_MS[unit] for n, unit in parts))
    else:
        raise ValueError("a duration is a number of seconds or a text such as '250ms' or '5s'")
    if duration < timedelta(0):
        raise ValueError("a duration is not negative")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest text that ``parse_duration`` reads back exactly."""
    ms = to_ms(duration)
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _FACTOR_MS[unit] == 0:
            return f"{ms // _FACTOR_MS[unit]}{unit}"
    return f"{ms}ms"


def to_ms(duration: timedelta) -> int:
    """Whole milliseconds of a duration."""
    return round(duration.total_seconds() * 1000)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["250ms", "5s", "1m"], "pattern": _DURATION_TEXT},
                {"type": "number", "minimum": 0},
            ],
            "unit": "seconds, or as written",
        }
    ),
]
"""A duration in a configuration: ``"250ms"``, ``"5s"``, ``"1m"`` or seconds."""


def _size(value: Any) -> Any:
    """pydantic reads the beginning of a text only: "1m 30s" would be a megabyte."""
    if isinstance(value, bool) or (isinstance(value, str) and not re.match(_SIZE_TEXT, value)):
        raise ValueError(
            f"{value!r} is no size: write a number of bytes, or a text such as '64KiB' or '1MiB'"
        )
    return value


Bytes = Annotated[
    ByteSize,
    BeforeValidator(_size),
    Field,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "examples": ["64KiB", "1MiB"], "pattern": _SIZE_TEXT},
                {"type": "integer", "minimum": 0},
            ],
            "unit": "bytes, or as written",
        }
    ),
]
"""A size in a configuration: ``"64KiB"``, ``"1MiB"`` or a number of bytes."""


def _nats_urls(servers: list[str]) -> list[str]:
    urls = [server if "://" in server else f"nats://{server}" for server in servers]
    for url in urls:
        if url.partition("://")[0] not in ("nats", "tls", "ws", "wss"):
            raise ValueError("write nats://host:port, or tls:// to insist on TLS")
    return urls


Version = Annotated[
    str,
    Field(coerce_numbers_to_str=True),
    WithJsonSchema({"type": ["string", "number"]}),
]
"""The version of a model in a configuration: a text, or a number that is taken as one."""


def unit(name: str) -> JsonDict:
    """What a number in a configuration counts, for its JSON schema."""
    return {"unit": name}


NatsUrls = Annotated[list[str], AfterValidator(_nats_urls)]
"""NATS servers in a configuration: ``nats://host:port``, where ``nats://`` may be left out."""
