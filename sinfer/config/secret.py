"""Secrets in a configuration: masked wherever they are shown, stored as references alone."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    WithJsonSchema,
)

from sinfer.logging.masking import secret_parameters

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


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
