"""Taking secrets out of texts that people or other systems will see."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
_SECRET_PARAMETERS = re.compile(
    r"(?<=[?&])((?:(?:\w+_)?password|passwd|token|access_token|secret|api_?key|key|sig|signature)=)"
    r"([^&#\s\"']+)",
    re.IGNORECASE,
)
_SHORTEST = 4

MOST_REASON_CHARACTERS = 500


def mask(text: str) -> str:
    """Replace the secrets of every URL in a text: ``redis://***@host``, ``?token=***``."""
    return _SECRET_PARAMETERS.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def one_line(text: str) -> str:
    """A reason as it can be stored and shown: one line of valid Unicode, at most 500 characters,
    without the secrets of URLs."""
    text = mask(text)[: 4 * MOST_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return " ".join(text.split())[:MOST_REASON_CHARACTERS]


def masked(value: Any) -> Any:
    """A value of a configuration with the secrets of URLs in it replaced, at any depth."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {name: masked(part) for name, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(masked(part) for part in value)
    return value


def without_credentials(url: str) -> str:
    """A URL without user, password and parameters, for messages."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def secret_parameters(url: str) -> list[str]:
    """The values of those parameters in a URL's query that hold a secret by their name."""
    return [match[2] for match in _SECRET_PARAMETERS.finditer(url)]


def hide(text: str, secrets: Iterable[str]) -> str:
    """Replace secrets themselves, wherever they are in a text: servers may quote what they got.

    Of ``Bearer x`` and ``Basic x`` also the ``x``, and what it stands for. What has fewer than
    four characters is too common to be replaced.
    """
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _SHORTEST}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def _forms(secret: str) -> Iterable[str]:
    yield secret
    yield unquote(secret)
    scheme, _, rest = secret.partition(" ")
    if rest:
        yield rest
    if scheme.lower() == "basic":
        with suppress(ValueError):
            yield b64decode(rest).decode().partition(":")[2]
