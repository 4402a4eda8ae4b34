"""The messages of a chaos run: what each number is published as, and what must become of it."""

from __future__ import annotations

import json
from typing import Literal

Fate = Literal["result", "unreadable", "refused", "filtered"]
"""What must become of a message: one result, a dead letter of ``preprocess``, a dead letter because
the model refuses it, or nothing."""

FIRST_POISON = 10_000_000
"""Numbers from here on are of messages on which hooks do what they should not."""

REFUSED_FEATURE = 1e308
"""Sixteen of these have no finite mean: the model answers 400."""

_KEYS = 3


def fate(number: int) -> Fate:
    """What must become of the message with this number."""
    if number % 211 == 13:
        return "unreadable"
    if number % 499 == 7:
        return "refused"
    if number % 97 == 5:
        return "filtered"
    return "result"


def payload(number: int, time_s: float) -> bytes:
    """The message with this number, which is also the model's answer to it."""
    kind = fate(number)
    if kind == "unreadable":
        return b'{"id": %d, "key": ' % number
    item = {"id": number, "key": f"k{number % _KEYS}", "time": round(time_s, 3), "fate": kind}
    return json.dumps(item).encode()


def number_of(data: bytes) -> int:
    """The number of a message, whatever its fate."""
    return int(data.split(b",")[0].removeprefix(b'{"id": '))


def poison(number: int, hook: str, act: str, time_s: float) -> bytes:
    """A message on which a hook does something that it should not."""
    item = {
        "id": number, "key": f"k{number % _KEYS}", "time": round(time_s, 3), "fate": "poison",
        "hook": hook, "act": act,
    }  # fmt: skip
    return json.dumps(item).encode()
