"""Durations, byte sizes and secrets as they are written in a configuration."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from sinfer.logging.masking import mask, secret_parameters

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_TEXT = r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+)\s*$"
_SIZE_TEXT = r"^\s*\d*\.?\d+\s*([KkMmGgTtPpEe]([Ii]?[Bb]([Ii][Tt])?)?|[Bb]([Ii][Tt])?)?\s*$"
"""What ``parse_duration`` and pydantic's ``ByteSize`` read, for JSON schemas."""
_FACTOR_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


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


def resolve_references(text: str) -> str:
    """Replace each ``${NAME}`` by the environment variable of that name.

    Raises:
        ValueError: a variable is not set.
    """

    def value_of(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise ValueError(f"environment variable {match[1]} is not set") from None

    return _REFERENCE.sub(value_of, text)


class ReferringSecret(SecretStr):
    """A secret that remembers how it was written.

    Attributes:
        written: the text with its ``${NAME}`` references as they are.
    """

    def __init__(self, secret_value: str, written: str | None = None) -> None:
        super().__init__(secret_value)
        self.written = secret_value if written is None else written


NOT_STORED = {"sinfer": "a secret in clear is not stored; write it as ${NAME}"}
"""Takes the place of a secret that is written in clear, in what is stored of a configuration."""

KEPT = {"sinfer": "kept"}
"""Context of ``model_validate`` for what an earlier version may have accepted and stored."""

STORING = {"sinfer": "storing"}
"""The context in which a configuration is dumped to be stored: with references, without secrets."""


def storable(written: str) -> str | dict[str, str]:
    """A secret as it may be stored: with its references; not at all if it is written in clear.

    A URL without credentials is no secret.
    """
    _, is_url, place = written.partition("://")
    if not is_url:
        return written if _REFERENCE.search(written) else NOT_STORED
    if any(_REFERENCE.sub("", value) for value in secret_parameters(written)):
        return NOT_STORED
    credentials, _, _ = place.partition("/")[0].rpartition("@")
    user, has_password, password = credentials.partition(":")
    if has_password:
        return NOT_STORED if _REFERENCE.sub("", password) else written
    in_clear = user and not _REFERENCE.search(user) and written.startswith(("nats", "tls"))
    return NOT_STORED if in_clear else written


def _secret(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return ReferringSecret(resolve_references(value), value)


def _dumped(value: SecretStr, info: SerializationInfo) -> Any:
    if info.context != STORING:
        return str(value)
    return storable(value.written) if isinstance(value, ReferringSecret) else NOT_STORED


Secret = Annotated[
    SecretStr,
    BeforeValidator(_secret),
    PlainSerializer(_dumped, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "examples": ["${NAME}"]}),
]
"""A text that is masked wherever it is shown and may refer to the environment as ``${NAME}``."""


FROM_ENVIRONMENT = "environment"
NO_PROXY = "none"

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_url(text: str) -> str:
    """The URL of a proxy in full: tools take it without ``http://``, and ``socks://`` for SOCKS 5.

    Raises:
        ValueError: it is none; the text begins with "is".
    """
    written = text if "://" in text else f"http://{text}"
    if written.lower().startswith("socks://"):
        written = f"socks5{written[5:]}"
    try:
        parts = urlsplit(written)
        is_usable = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not written.isprintable() or " " in written:
        raise ValueError(
            "is no URL of a proxy: write http://host:port, https://, socks5:// or socks5h://"
        )
    return written


def _proxy(value: Any) -> Any:
    if value is False:
        return SecretStr(NO_PROXY)
    if not isinstance(value, str):
        return value
    if (word := value.strip().lower()) in (FROM_ENVIRONMENT, NO_PROXY):
        return SecretStr(word)
    resolved = resolve_references(value).strip()
    proxy_url(resolved)
    return ReferringSecret(resolved, value)


def _dumped_proxy(value: SecretStr, info: SerializationInfo) -> Any:
    if not isinstance(value, ReferringSecret):
        return value.get_secret_value()
    if info.context != STORING:
        return mask(value.get_secret_value())
    return storable(value.written)


Proxy = Annotated[
    SecretStr,
    BeforeValidator(_proxy),
    PlainSerializer(_dumped_proxy, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "examples": ["none", "environment", "http://proxy:3128"]}),
]
"""A proxy in a configuration: a URL, ``none`` to do without, or ``environment`` for what
``HTTP_PROXY`` and its like say. The URL may refer to the environment as ``${NAME}``."""
