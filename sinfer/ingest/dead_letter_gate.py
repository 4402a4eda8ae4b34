"""Acknowledging no dead letter before its copy is on a stream: Redis may lose everything."""

from __future__ import annotations

from sinfer.store.partition.unfinished_windows import Unfinished
from sinfer.windows.dead_letters import DeadEntry

Ranges = list[tuple[int, int]]
"""Inclusive ranges of stream sequences."""


class CopyGate:
    """Holds back what is finished until every dead letter that was there then has been copied.

    Which messages died does not matter: good ones that are finished wait with the dead ones, which
    is until the next copies are sent, a second or two, and as long as the stream of the copies is
    away. While nothing dies nothing waits. Reading and windows go on meanwhile.

    What is told here has to be seen at one moment, the position and the dead letters in one
    transaction with the writer's token. A letter that is gone from Redis needs no copy any more:
    somebody purged it, or it went back into a window, which is unfinished.
    """

    def __init__(self) -> None:
        self._waiting: tuple[Ranges, DeadEntry] | None = None

    @property
    def holds(self) -> bool:
        """Whether something waits for copies."""
        return self._waiting is not None

    def passing(self, finished_seq: int, finished: Ranges, unfinished: Unfinished) -> Ranges:
        """What may be acknowledged now.

        Args:
            finished_seq: what was read up to here is finished.
            finished: what was read of that.
            unfinished: what was seen when this was.
        """
        if unfinished.uncopied is None:
            self._waiting = None
            return finished
        if self._waiting is not None:
            waiting, behind = self._waiting
            if unfinished.copied is None or unfinished.copied < behind:
                return []
        else:
            waiting = []
        self._waiting = finished, unfinished.uncopied
        # What went back into a window since is unfinished again.
        return [
            (first, min(last, finished_seq)) for first, last in waiting if first <= finished_seq
        ]
