"""Log lines about partitions, gathered when many of them have the same to say at once."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_GATHER_S = 0.2
_MOST_LINES = 5


class Announcements:
    """Gathers what partitions say for a moment."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[Scope]] = defaultdict(list)
        self._timer: asyncio.TimerHandle | None = None

    def say(self, scope: Scope, text: str) -> None:
        """Log ``scope: text`` soon: by itself, or together with others of the same text."""
        self._waiting[text].append(scope)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self.tell)

    def tell(self) -> None:
        """Log what was said so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, defaultdict(list)
        for text, scopes in waiting.items():
            if len(scopes) <= _MOST_LINES:
                for scope in scopes:
                    _log.info("%s: %s", scope, text)
            else:
                _log.info("%d partitions (%s, ...): %s", len(scopes), scopes[0], text)
