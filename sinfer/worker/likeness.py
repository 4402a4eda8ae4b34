"""What reasons of refusals have in common, whichever item or window they speak of."""

from __future__ import annotations

import re

_TOLD = re.compile(
    r"'[^']*'|\"[^\"]*\"|`[^`]*`"  # quoted: often the value in question
    r"|\b[0-9a-f]{8,}(?:-[0-9a-f]+)*\b"  # ids
    r"|[-+]?\d[\d.,:eE+_-]*",
    re.IGNORECASE,
)

_WORDS = {"request": 2, "results": 2, "preprocess": 2}
"""How far reasons are compared: of what hooks raise their name and the exception."""

_OTHER_WORDS = 8


def likeness(stage: str, reason: str) -> str:
    """The beginning of a reason without numbers, ids and quoted values.

    Args:
        stage: where it was given.
        reason: in one line.
    """
    # The status of an answer is a number that matters.
    text = re.sub(r"(: )(\d{3}) ", lambda found: f"{found[1]}status_{_letters(found[2])} ", reason)
    words = _TOLD.sub("#", text).split()
    return " ".join(words[: _WORDS.get(stage, _OTHER_WORDS)])


def _letters(digits: str) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in digits)
