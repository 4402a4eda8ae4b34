"""Log lines about partitions, gathered when many of them have the same to say at once."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field

from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_GATHER_S = 0.5
_MOST_LINES = 5


@dataclass(slots=True)
class _Gathered:
    """What partitions said lately with the same words: so many at once, others wait."""

    told: int = 0
    waiting: list[Scope] = field(default_factory=list)


class Announcements:
    """Logs the first few partitions that say the same at once, and the others together."""

    def __init__(self) -> None:
        self._gathered: defaultdict[str, _Gathered] = defaultdict(_Gathered)
        self._timer: asyncio.TimerHandle | None = None

    def say(self, scope: Scope, text: str) -> None:
        """Log ``scope: text``, at once or in a moment together with others."""
        gathered = self._gathered[text]
        if gathered.told < _MOST_LINES:
            gathered.told += 1
            _log.info("%s: %s", scope, text)
        else:
            gathered.waiting.append(scope)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self.tell)

    def tell(self) -> None:
        """Log what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gathered, self._gathered = self._gathered, defaultdict(_Gathered)
        for text, found in gathered.items():
            if len(found.waiting) == 1:
                _log.info("%s: %s", found.waiting[0], text)
            elif found.waiting:
                many = len(found.waiting)
                _log.info("%d more partitions, such as %s: %s", many, found.waiting[0], text)
