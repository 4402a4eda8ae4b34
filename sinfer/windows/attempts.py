"""How often a window was tried: the attempts that count, and those that are excused."""

from __future__ import annotations

from typing import NamedTuple, Self

UNIT = 1_000_000
"""Versions before this one kept both in one number: so many for each attempt that is excused."""

EXCUSED = "excused "
"""Stands in front of a window's id where its excused attempts are stored."""


class Attempts(NamedTuple):
    """Claims of a window.

    Attributes:
        counted: those that count towards ``limits.max_attempts``.
        excused: those that do not, since the model or a sink was unavailable, or the worker ended.
    """

    counted: int
    excused: int

    @classmethod
    def stored(cls, counted: bytes | int, excused: bytes | int) -> Self:
        """What is stored of a window, the number that versions before this one kept included."""
        earlier, attempts = divmod(int(counted), UNIT)
        return cls(attempts, earlier + int(excused))
