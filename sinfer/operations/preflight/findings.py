"""What `sinfer check` found, one line of it."""

from __future__ import annotations

from dataclasses import dataclass

from sinfer.errors import AccessError, SinferError, UnavailableError
from sinfer.types.check import Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        what: what was looked at.
        verdict: ``warning`` works but is risky, ``error`` and ``unreachable`` will not work.
        text: what was found, and the remedy where one is needed; in front of it the field of the
            task, where it is about one.
    """

    what: str
    verdict: Verdict
    text: str


def verdict_of(error: SinferError) -> Verdict:
    """``unreachable`` where trying again may help."""
    if isinstance(error, UnavailableError) and not isinstance(error, AccessError):
        return "unreachable"
    return "error"
