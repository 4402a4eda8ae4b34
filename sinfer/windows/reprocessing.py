"""What a window remembers that is processed once more: a redrive of dead letters, or a rerun."""

from __future__ import annotations

from typing import Literal

import msgspec

from sinfer.windows.dead_letters import Failed


class Reprocessing(msgspec.Struct, array_like=True, frozen=True):
    """The window that is processed again, whole or in part.

    The store knows the window under an id of its own, so that it meets no other. Products and sinks
    see the id that it had, and the results keep their ordinals: what was written before is replaced
    and not doubled.

    Attributes:
        kind: whether dead letters were redriven, or a finished window is run again.
        id: the id that it had.
        attempts: how often it was tried before; added to the attempts of this time.
        ordinals: the places that its messages had in the window; empty where they had the same.
        history: how each of its messages failed before; empty where none did.
    """

    kind: Literal["redrive", "rerun"]
    id: str
    attempts: int = 0
    ordinals: list[int] = []
    history: list[list[Failed]] = []
