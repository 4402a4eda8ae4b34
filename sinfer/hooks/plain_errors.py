"""Errors that code of a product raises to say something, made harmless.

A subclass of ``SinkRejectedError`` may answer for its ``ordinals`` with anything, end the process
included, wherever that is asked; so may an attribute that was set later. What is passed on from a
hook is an error of sinfer's own class, with values of the types that it says.
"""

from __future__ import annotations

import math
from typing import Any

from sinfer import errors
from sinfer.errors import (
    InferenceError,
    InferenceUnavailableError,
    SinferError,
    SinkRejectedError,
    SinkUnavailableError,
)


def plain(error: SinferError) -> SinferError:
    """A copy of an error, of the nearest class that ``sinfer.errors`` has.

    Raises:
        BaseException: what its attributes raise, or come to; the error says nothing then.
    """
    kind = next(each for each in type(error).__mro__ if each.__module__ == errors.__name__)
    copy = _copy(kind, error, str(error))
    copy.__cause__ = error.__cause__
    return copy


def _copy(kind: Any, error: Any, text: str) -> SinferError:
    found: SinferError
    if issubclass(kind, InferenceUnavailableError):
        found = kind(
            text,
            status=_status(error.status),
            retry_after=_seconds(error.retry_after),
            not_begun=bool(error.not_begun),
        )
    elif issubclass(kind, InferenceError):
        found = kind(text, status=_status(error.status))
    elif issubclass(kind, SinkUnavailableError):
        found = kind(text, retry_after=_seconds(error.retry_after))
    elif issubclass(kind, SinkRejectedError):
        found = kind(text, ordinals=error.ordinals, confirmed=error.confirmed)
    elif kind.__init__ is SinferError.__init__:
        found = kind(text)
    else:
        found = error
    return found


def _status(value: Any) -> int | None:
    return None if value is None else int(value)


def _seconds(value: Any) -> float | None:
    """Seconds that were asked for; None for what is no number of them."""
    try:
        seconds = None if value is None else float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:
        return math.inf
    return None if seconds is None or math.isnan(seconds) else seconds
