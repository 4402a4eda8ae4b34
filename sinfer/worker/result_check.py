"""What ``build_results`` returned: how many, and of each one whether sinks can have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Literal, TypeAlias

import msgspec

from sinfer.encoding import to_json
from sinfer.errors import HookError
from sinfer.hooks.call import Hook, describe, reason_of
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


def checked_results(returned: Any, results_per: str, items: int) -> list[Checked]:
    """What becomes of each result; whatever is wrong with one harms no other.

    Args:
        returned: what ``build_results`` returned: any iterable, a generator too.
        results_per: what the pipeline says of how many there should be.
        items: in the window.

    Raises:
        WrongNumberError: it has another length.
        HookError: it is no list of results, or raises while it is read.
    """
    expected = {"item": items, "window": 1}.get(results_per)
    if isinstance(returned, Result):
        raise _wrong("returned a single Result, not a list of them")
    if isinstance(returned, str | bytes | bytearray | Mapping) or not isinstance(
        returned, Iterable
    ):
        raise _wrong(f"returned {_kind(returned)}, not a list of Result")
    most = MOST_RESULTS if expected is None else expected
    if type(returned) is list:
        most = max(most, len(returned))  # it is in the memory, however long it is
    number, found = _READ(returned, most, expected)
    if found is None:
        told = f"more than {most}" if number > most else str(number)
        asked = f"at most {most}" if expected is None else str(expected)
        raise WrongNumberError(
            f"returned {told} results for {items} items;"
            f" results_per = {results_per!r} asks for {asked}",
            None if number > most else number,
        )
    results: list[Checked] = found
    return results


def _read(
    returned: Iterable[Any], most: int, expected: int | None
) -> tuple[int, list[Checked] | None]:
    """How many results there are, one more than the most at most, and what becomes of each of them
    if that is right."""
    found = list(islice(iter(returned), most + 1))
    if len(found) > most or expected not in (None, len(found)):
        return len(found), None
    return len(found), [_checked(result) for result in found]


def _checked(result: Any) -> Checked:
    try:
        return _fate_of(result)
    except BaseException as error:
        reason = f"{HOOK}: its result cannot be read: {reason_of(error)}"
        return Checked("failed", reason=reason)


def _fate_of(result: Any) -> Checked:
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


def _wrong(text: str) -> HookError:
    return HookError("results", HOOK, text)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


_READ = Hook("results", HOOK, _read)
"""What is looked at is a product's own: its list, and its results, may raise."""
