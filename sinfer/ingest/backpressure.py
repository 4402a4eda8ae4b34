"""Whether to pull: not while too much waits, Redis is full, or someone paused the task.

Nothing is dropped to relieve pressure: JetStream keeps the backlog. Each limit has a high mark at
which pulling stops and a low mark at which it starts again.
"""

from __future__ import annotations

import logging
import math

from sinfer.errors import UnavailableError
from sinfer.products.task import Limits
from sinfer.store.connection import Store
from sinfer.store.server import server_memory

_log = logging.getLogger(__name__)

HIGH_MEMORY = 0.80
"""The share of ``maxmemory`` at which pulling stops."""
_LOW_MEMORY = 0.70

_OTHERS_HIGH = 0.90
"""The high mark for the others, while those that fill Redis are stopped."""

_SHARE_OF_ROOM = 0.25
"""How much of the room below the high mark is filled before Redis is asked again: others fill it
as well."""

_OVERHEAD_BYTES = 100
"""What a message takes besides its payload, at most."""


class MemoryPressure:
    """Whether Redis' memory is near its limit; one for all partitions of a process.

    Args:
        store: the window store.

    Attributes:
        is_high: whether it is.
        changes: how often that has changed; nobody may have looked in between.
        used, limit: Redis' memory in use and its ``maxmemory``, bytes; 0 for none.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._allowance = math.inf
        self.is_high = False
        self.changes = 0
        self.used = self.limit = 0

    def stops(self, *, others_are_stopped: bool) -> bool:
        """Whether not to pull.

        Args:
            others_are_stopped: whether those are that take most of the memory.
        """
        if not others_are_stopped:
            return self.is_high
        return self.is_high and self.used >= _OTHERS_HIGH * self.limit

    async def refresh(self) -> None:
        """Ask Redis how full it is. Without a ``maxmemory`` it is never full."""
        memory = await server_memory(self._store)
        self.limit, self.used = limit, used = memory.limit, memory.used
        share = used / limit if limit else 0.0
        was_high = self.is_high
        self.is_high = share >= (_LOW_MEMORY if was_high else HIGH_MEMORY)
        room = max(0.0, HIGH_MEMORY * limit - used) if limit else math.inf
        self._allowance = _SHARE_OF_ROOM * room
        if self.is_high != was_high:
            self.changes += 1
            _log.warning(
                "Redis uses %.0f %% of its maxmemory; pulling %s", 100 * share,
                "stops" if self.is_high else "goes on",
            )  # fmt: skip

    async def stored(self, messages: int, payload: int) -> bool:
        """So much more is stored: ask sooner than usual when that may have filled Redis.

        Args:
            messages: how many.
            payload: bytes of all of them.

        Returns:
            Whether Redis was asked.
        """
        self._allowance -= payload + _OVERHEAD_BYTES * messages
        if self._allowance < 0:
            try:
                await self.refresh()
            except UnavailableError as error:
                _log.debug("Redis does not tell how full it is: %s", error)
            else:
                return True
        return False


class PartitionPressure:
    """Whether the windows of one partition that wait are too many, or hold too much."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._stopped = False

    def reason(self, windows: int, payload: int) -> str:
        """Why not to pull now; empty when pulling is fine.

        Args:
            windows: closed windows that are not done.
            payload: bytes that they hold.
        """
        part = 2 if self._stopped else 1  # once stopped, wait until half is done
        over = []
        if windows * part > self._limits.max_pending_windows:
            over.append(
                f"{windows} windows wait (limits.max_pending_windows"
                f" {self._limits.max_pending_windows})"
            )
        if payload * part > self._limits.max_pending_bytes:
            over.append(
                f"windows of {payload} bytes wait (limits.max_pending_bytes"
                f" {int(self._limits.max_pending_bytes)})"
            )
        self._stopped = bool(over)
        return "; ".join(over)
