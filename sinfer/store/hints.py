"""Who tells workers that closed windows wait. The store is the truth; a hint only saves time."""

from __future__ import annotations

from typing import Protocol

from sinfer.windows.ids import Scope


class Hints(Protocol):
    """Takes hints and has them sent, in its own time.

    Attributes:
        problem: why hints cannot be sent now; empty when they can.
    """

    problem: str

    def send(self, scope: Scope, windows: int, *, always: bool = False) -> None:
        """Have workers look at a partition. Returns at once.

        Args:
            scope: the partition.
            windows: how many wait that no worker was told of; with none nothing is sent.
            always: send even so.
        """
        ...
