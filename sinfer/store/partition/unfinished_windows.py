"""What the windows of a partition hold that are not done."""

from __future__ import annotations

from dataclasses import dataclass

from sinfer.windows.dead_letters import DeadEntry


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the windows of a partition hold that are not done.

    Attributes:
        bytes: payloads of closed windows, counted once for each window that holds them.
        first_seq: least stream sequence among the messages of closed windows, and of open ones
            where these were asked for; None when there is no such window.
        copied: the last dead letter that a copy was sent of, where that was asked for; None when
            there is none.
        uncopied: the last dead letter of all, where that was asked for and no copy of it was sent
            yet; None when all that there are were copied.
    """

    bytes: int
    first_seq: int | None
    copied: DeadEntry | None = None
    uncopied: DeadEntry | None = None
