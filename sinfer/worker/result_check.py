"""What ``build_results`` returned: how many, and of each one whether sinks can have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Literal, TypeAlias

import msgspec

from sinfer.encoding import to_json
from sinfer.errors import HookError
from sinfer.hooks.call import Hook, describe
from sinfer.logging.masking import one_line
from sinfer.types.result import Result

HOOK = "build_results"

MOST_RESULTS = 1_000_000
"""Of one window: a generator without end must not fill the memory."""

Fate: TypeAlias = Literal["ok", "failed", "retry"]


class WrongNumberError(HookError):
    """``build_results`` returned a list of another length than it should.

    Attributes:
        found: its length; None where it is longer than was read.
    """

    def __init__(self, text: str, found: int | None) -> None:
        super().__init__("results", HOOK, text)
        self.found = found


class Checked(msgspec.Struct, frozen=True):
    """One result.

    Attributes:
        fate: what becomes of it.
        data: as JSON, where it is ok.
        reason: why it is not.
        is_verdict: whether the product decided so; else something is wrong with the result.
    """

    fate: Fate
    data: bytes = b""
    reason: str = ""
    is_verdict: bool = False


def result_list(returned: Any, expected: int | None, results_per: str, items: int) -> list[Any]:
    """The results, in a list of the right length.

    Args:
        returned: what ``build_results`` returned: any iterable, a generator too.
        expected: how many there should be; None for any number.
        results_per: what the pipeline says.
        items: in the window.

    Raises:
        WrongNumberError: it has another length.
        HookError: it is no list of results, or raises while it is read.
    """
    if isinstance(returned, Result):
        raise _wrong("returned a single Result, not a list of them")
    if isinstance(returned, str | bytes | bytearray | Mapping) or not isinstance(
        returned, Iterable
    ):
        raise _wrong(f"returned {_kind(returned)}, not a list of Result")
    most = MOST_RESULTS if expected is None else expected
    if type(returned) is list:
        most = max(most, len(returned))  # it is in the memory, however long it is
    found: list[Any] = _FIRST(returned, most + 1)
    if expected is None and len(found) <= most:
        return found
    if len(found) != expected:
        number = f"more than {most}" if len(found) > most else str(len(found))
        asked = f"at most {most}" if expected is None else str(expected)
        raise WrongNumberError(
            f"returned {number} results for {items} items;"
            f" results_per = {results_per!r} asks for {asked}",
            None if len(found) > most else len(found),
        )
    return found


def checked(results: Iterable[Any]) -> list[Checked]:
    """What becomes of each result; whatever is wrong with one harms no other."""
    found: list[Checked] = []
    with _CHECKED.for_each() as check:
        for result in results:
            try:
                found.append(check(result))
            except HookError as error:
                reason = f"{HOOK}: its result cannot be read: {error.text}"
                found.append(Checked("failed", reason=reason))
    return found


def _checked(result: Any) -> Checked:
    if not isinstance(result, Result):
        return Checked("failed", reason=f"{HOOK} returned {_kind(result)} instead of a Result")
    outcome = result.outcome
    if outcome == "ok":
        try:
            return Checked("ok", to_json(result.data))
        except BaseException as error:
            return Checked("failed", reason=f"result cannot be written as JSON: {describe(error)}")
    reason = one_line(str(result.reason)) or f"{HOOK} marked it {outcome}"
    if outcome == "failed":
        return Checked("failed", reason=reason, is_verdict=True)
    if outcome == "retry":
        return Checked("retry", reason=reason, is_verdict=True)
    return Checked(
        "failed",
        reason=f"{HOOK}: outcome {one_line(repr(outcome))} is none of ok, failed and retry",
    )


def _first(results: Iterable[Any], most: int) -> list[Any]:
    return list(islice(iter(results), most))


def _wrong(text: str) -> HookError:
    return HookError("results", HOOK, text)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


_FIRST = Hook("results", HOOK, _first)
_CHECKED = Hook("results", HOOK, _checked)
"""What is looked at is a product's own: its list, and its results, may raise."""
