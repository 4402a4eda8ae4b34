"""The process that windows are processed in, as the worker sees it."""

from __future__ import annotations

from typing import Protocol

from sinfer.store.hints import Hints
from sinfer.store.work.claim import Claim
from sinfer.windows.ids import Scope
from sinfer.worker.outcome import WindowEnd


class ShownTry(Protocol):
    """One try of a window, as people see it."""

    def ended(self, end: WindowEnd | None) -> None:
        """What became of it; None where another worker has it, or it was broken off."""
        ...


class Host(Protocol):
    """The process that windows are processed in, and what it has to do with others.

    Attributes:
        hints: tells other processes of windows.
    """

    @property
    def hints(self) -> Hints: ...

    def serves(self, product: str) -> bool:
        """Whether windows of a product are processed here; others see to the rest."""
        ...

    def is_told_to_end(self) -> bool:
        """Whether everything is about to end, not only this process."""
        ...

    def note_load(self, windows: int) -> None:
        """So many windows are under way."""
        ...

    def began(self, scope: Scope, claim: Claim, messages: int) -> ShownTry | None:
        """A window is being processed; None while nobody wants to know.

        Args:
            scope: its partition.
            claim: of the window.
            messages: how many it has.
        """
        ...

    def close(self) -> None:
        """The process ends."""
        ...
