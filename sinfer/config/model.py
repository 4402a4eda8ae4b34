"""The base of every configuration model, and how its errors are told to a user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from sinfer.errors import ConfigError
from sinfer.logging.masking import mask, masked

_SECRET_WORDS = (
    "password",
    "token",
    "secret",
    "url",
    "auth",
    "servers",
    "creds",
    "seed",
    "header",
    "proxy",
)
"""What values of such fields may hold is not shown."""


class ConfigModel(BaseModel):
    """A part of a configuration: unknown keys are refused, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_the_nearest_key(cls, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        """Say of an unknown key which one may have been meant: only the model knows them all."""
        try:
            return handler(value)
        except ValidationError as error:
            lines = error.errors(include_url=False)
            if not any(line["type"] == "extra_forbidden" for line in lines):
                raise
            raise ValidationError.from_exception_data(
                error.title,
                [
                    InitErrorDetails(
                        type=PydanticCustomError(line["type"], _text_of(line, cls.model_fields)),
                        loc=line["loc"],
                        input=line["input"],
                    )
                    for line in lines
                ],
            ) from None

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without the secrets of URLs; what is a ``Secret`` masks itself."""
        return ((name, masked(value)) for name, value in super().__repr_args__())


def explain(error: ValidationError, where: str, given: object = None) -> ConfigError:
    """Turn pydantic's errors into one line a field: where, which field, which value, what to do.

    Args:
        error: what pydantic raised.
        where: the file, table row or product that holds the configuration.
        given: the configuration as it was given, so that fields are named as they stand in it.
    """
    lines = []
    for detail in error.errors(include_url=False):
        location = detail["loc"]
        text = detail["msg"].removeprefix("Value error, ")
        is_missing = detail["type"] in ("missing", "union_tag_not_found")
        if detail["type"] == "union_tag_not_found":
            location = (*location, "type")
        field = ".".join(_path(location, given, is_missing=is_missing)) or "(all)"
        if is_missing:
            text = "is required; add it"
        elif detail["type"] != "extra_forbidden" and isinstance(
            detail["input"], str | int | float | bool | None
        ):
            text = f"{text} (got {_shown(detail['input'], field)})"
        lines.append(f"{where}: {field}: {text}")
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _text_of(line: Any, known: Iterable[str]) -> str:
    """What is wrong; a model inside this one has said already what is wrong with its own keys."""
    if line["type"] != "extra_forbidden" or line["msg"].startswith(_UNKNOWN):
        return str(line["msg"])
    nearest = difflib.get_close_matches(str(line["loc"][-1]), known, n=1)
    return f"{_UNKNOWN}{f'did you mean {nearest[0]!r}?' if nearest else 'remove it'}"


_UNKNOWN = "unknown key; "


def _path(location: Sequence[int | str], given: object, *, is_missing: bool) -> Iterator[str]:
    """The parts of pydantic's location that stand in the configuration.

    The others name the members of a union, such as the type of a window.
    """
    for place, part in enumerate(location):
        is_last = place == len(location) - 1
        if isinstance(given, Mapping):
            is_member = not is_last and part == given.get("type")
            if is_member or not (part in given or (is_last and is_missing)):
                continue
            given = given.get(part)
        elif isinstance(given, list | tuple) and isinstance(part, int):
            given = given[part] if part < len(given) else None
        elif given is not None:
            continue
        yield str(part)


def _shown(value: object, field: str) -> str:
    secret = any(word in field.lower() for word in _SECRET_WORDS)
    return "a masked value" if secret else mask(repr(value))[:80]
