"""JSON as sinfer writes it: fast, and with the types that products put into requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from pydantic import BaseModel


def _plain(value: Any) -> Any:
    """What msgspec does not know by itself: pydantic models, NumPy arrays and scalars."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder()


to_json: Callable[[Any], bytes] = _encoder.encode
"""Encode a value as compact JSON; NaN and infinities become ``null``.

Raises:
    TypeError: a value of a type that JSON has no form for.
"""


plain_json: Callable[[bytes], Any] = _decoder.decode
"""Decode JSON that is as RFC 8259 says.

Raises:
    ValueError, RecursionError: it is not, or nested too deeply.
"""


def from_json(data: bytes | str) -> Any:
    """Decode JSON.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def from_foreign_json(data: bytes) -> Any:
    """Decode JSON as model servers write it.

    Besides what RFC 8259 allows, that is ``NaN``, ``Infinity`` and ``-Infinity`` (TensorFlow
    Serving, Triton, and Python's own ``json``), numbers beyond the range of a float, a byte order
    mark, and UTF-16 or UTF-32.

    Raises:
        ValueError: it is no JSON all the same, or nested too deeply.
    """
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise error from None
