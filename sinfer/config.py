"""The base of every configuration model, and how its errors are told to a user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sinfer.errors import ConfigError
from sinfer.masking import mask, masked

_SECRET_WORDS = ("password", "token", "secret", "url", "auth", "servers", "creds", "seed", "header")
"""What values of such fields may hold is not shown."""


class ConfigModel(BaseModel):
    """A part of a configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without the secrets of URLs; what is a ``Secret`` masks itself."""
        return ((name, masked(value)) for name, value in super().__repr_args__())


def explain(error: ValidationError, where: str) -> ConfigError:
    """Turn pydantic's errors into one line a field: where, which field, which value, what to do.

    Args:
        error: what pydantic raised.
        where: the file, table row or product that holds the configuration.
    """
    lines = []
    for detail in error.errors(include_url=False):
        field = ".".join(str(part) for part in detail["loc"]) or "(all)"
        text = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            text = "unknown key; remove it or correct its spelling"
        elif detail["type"] == "missing":
            text = "is required; add it"
        elif isinstance(detail["input"], str | int | float | bool | None):
            text = f"{text} (got {_shown(detail['input'], field)})"
        lines.append(f"{where}: {field}: {text}")
    return ConfigError("\n".join(lines))


def _shown(value: object, field: str) -> str:
    secret = any(word in field.lower() for word in _SECRET_WORDS)
    return "a masked value" if secret else mask(repr(value))[:80]
