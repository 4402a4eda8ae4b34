"""What code of a product raises to say something is passed on as sinfer's own error."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sinfer.errors import (
    HookError,
    InferenceMisconfiguredError,
    InferenceUnavailableError,
    SinferError,
    SinkRejectedError,
    SinkUnavailableError,
)
from sinfer.hooks.call import Hook
from sinfer.http.retry_after import asked_s
from sinfer.types.result import Confirmed


class Ends(SinkRejectedError):
    @property
    def ordinals(self) -> Any:
        raise SystemExit(3)

    @ordinals.setter
    def ordinals(self, value: Any) -> None: ...


class EndsWhenAsked(float):
    def __gt__(self, other: object) -> bool:
        raise SystemExit(4)

    __lt__ = __ge__ = __le__ = __gt__


class Named(SinkRejectedError):
    """As a product may call its own."""


def raised(error: BaseException) -> Any:
    def write() -> None:
        raise error

    with pytest.raises(SinferError) as caught:
        Hook("sink", "write", write, passing=(SinferError,))()
    return caught.value


async def test_an_attribute_that_ends_the_process_when_asked_fails_its_hook_alone() -> None:
    async def write() -> None:
        raise Ends("no")

    told = raised(Ends("no"))
    assert type(told) is HookError
    assert "SystemExit: 3" in told.text
    with pytest.raises(HookError, match="SystemExit: 3"):
        await Hook("sink", "write", write, passing=(SinferError,)).wait()


@pytest.mark.parametrize(
    ("asked", "waits_s"),
    [
        (None, 0.0),
        (7, 7.0),
        (EndsWhenAsked(5), 5.0),
        (10**400, 3600.0),
        (math.inf, 3600.0),
        (math.nan, 0.0),
        (-3, 0.0),
        ("soon", 0.0),
        ([], 0.0),
    ],
)
def test_any_wait_may_be_asked_for(asked: Any, waits_s: float) -> None:
    for error in (
        SinkUnavailableError("away", retry_after=asked),
        InferenceUnavailableError("away", retry_after=asked),
    ):
        told = raised(error)
        assert type(told) is type(error)
        assert asked_s(told.retry_after) == waits_s


def test_what_is_said_rightly_is_passed_on() -> None:
    told = raised(Named("two", ordinals=[1, 3], confirmed=Confirmed(new=4)))
    assert type(told) is SinkRejectedError
    assert (str(told), told.ordinals) == ("two", frozenset({1, 3}))
    assert told.confirmed == Confirmed(new=4)
    told = raised(InferenceMisconfiguredError("no key", status=401))
    assert (type(told), told.status) == (InferenceMisconfiguredError, 401)
    told = raised(InferenceUnavailableError("full", status=503, not_begun=True))
    assert (told.status, told.not_begun) == (503, True)


def test_an_attribute_that_was_changed_to_something_else_fails_its_hook() -> None:
    error = SinkRejectedError("x")
    error.ordinals = ["a"]  # type: ignore[assignment]
    assert type(raised(error)) is HookError
