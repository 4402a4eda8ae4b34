"""How many replicas must have a write before it counts as kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_GRACE_S = 60.0
"""A primary whose replicas are gone is not trusted for so long: it may be cut off, and another be
made the primary in its place."""

_SETTLING_S = 10.0
"""So long the replicas of a new primary, or of one that was started again, may take to connect."""


@dataclass(frozen=True, slots=True)
class Replication:
    """What ``INFO replication`` says.

    Attributes:
        history: changes when another server becomes the primary.
        online: how many replicas follow.
    """

    history: str
    online: int

    @classmethod
    def of(cls, told: Any) -> Replication:
        """Read an answer, as text or in bytes."""
        text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
        lines = dict(line.partition(":")[::2] for line in text.splitlines())
        online = sum(
            name.startswith("slave") and name[5:].isdigit() and ",state=online," in f"{what},"
            for name, what in lines.items()
        )
        return cls(lines.get("master_replid", ""), online)


class Replicas:
    """How many replicas are waited for: as many as is set, or one where there are any.

    Args:
        wanted: the setting; None to follow what Redis shows.

    Attributes:
        needed: how many have to have a write.
        online: how many follow.
        are_gone: whether there were some, and none is waited for any more.
    """

    def __init__(self, wanted: int | None) -> None:
        self.is_set = wanted is not None
        self.needed = wanted or 0
        self.online = 0
        self.are_gone = False
        self._history: str | None = None
        self._needed_until_s = float("-inf")

    def look(self, seen: Replication, now_s: float) -> bool:
        """Take note of what Redis says.

        Args:
            seen: that.
            now_s: the monotonic clock.

        Returns:
            Whether it may have other replicas than before.
        """
        are_others = (seen.history, seen.online) != (self._history, self.online)
        self._follow(seen, now_s)
        self.online, self._history = seen.online, seen.history
        return are_others

    def _follow(self, seen: Replication, now_s: float) -> None:
        if self.is_set:
            return
        if seen.history != self._history and self.needed:
            self._needed_until_s = now_s + _SETTLING_S
        if seen.online:
            self.needed, self.are_gone = 1, False
            self._needed_until_s = now_s + _GRACE_S
        elif self.needed and now_s >= self._needed_until_s:
            self.needed, self.are_gone = 0, True
