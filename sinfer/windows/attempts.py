"""How often a window was tried, in the one number that the store keeps of it."""

from __future__ import annotations

from typing import NamedTuple, Self

UNIT = 1_000_000
"""What a claim that does not count adds: above any number of attempts, and exact in Lua for
thousands of years of waits."""

WAIT = UNIT - 1
"""What is added to the number when the last claim turns out not to count."""


class Tries(NamedTuple):
    """Claims of a window.

    Attributes:
        attempts: those that count towards ``limits.max_attempts``.
        waits: those that do not, since the model or a sink was unavailable, or the worker ended.
    """

    attempts: int
    waits: int

    @classmethod
    def unpack(cls, stored: bytes | int) -> Self:
        """Read the stored number: each claim adds 1, and ``WAIT`` makes a wait of it."""
        waits, attempts = divmod(int(stored), UNIT)
        return cls(attempts, waits)
