"""Whether to pull: not while too much waits, Redis is full, or someone paused the task.

Nothing is dropped to relieve pressure: JetStream keeps the backlog. Each limit has a high mark at
which pulling stops and a low mark at which it starts again.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

from sinfer.errors import UnavailableError
from sinfer.ingest.memory_budgets import TaskBudgets
from sinfer.products.task import Limits
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.connection import Store
from sinfer.store.server import server_memory
from sinfer.windows.ids import Scope

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


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a partition pulls nothing.

    Attributes:
        reason: for people.
        passes_by_itself: whether nobody wakes the partition when it is over.
        is_told: whether the store tells of it already: pauses and budgets have boards.
        drain: when a drain of the task began, which asks for all open windows to be closed; 0 for
            none.
    """

    reason: str
    passes_by_itself: bool
    is_told: bool = False
    drain: int = 0


class Holds:
    """Whether a partition may pull: what holds it back, be it a pause, memory, or what waits.

    Args:
        pauses, memory, budgets: what all partitions of the process share.
        scope: the partition.
        limits: of the task.
    """

    def __init__(
        self,
        pauses: PauseBoard,
        memory: MemoryPressure,
        budgets: TaskBudgets,
        scope: Scope,
        limits: Limits,
    ) -> None:
        self._pauses, self._memory, self._budgets = pauses, memory, budgets
        self._names = scope.product, scope.task
        self._pressure = PartitionPressure(limits)

    def first(self, windows: int, payload: int) -> Hold | None:
        """What holds the partition back; None when nothing does.

        Args:
            windows: closed windows that are not done.
            payload: bytes that they hold.
        """
        if self._pauses.known:
            pause = self._pauses.of(*self._names)
            if pause is not None and pause.what == "drain":
                return Hold(f"draining: {pause.reason}", False, True, pause.since_ms)
            if pause is not None and pause.what == "all":
                return Hold(f"paused: {pause.reason}", False, True)
        memory, budgets = self._memory, self._budgets
        # While those are stopped that take most of the memory, the others go on for longer.
        if memory.is_high and (not budgets.stopped or memory.used >= _OTHERS_HIGH * memory.limit):
            return Hold("Redis is nearly full", False)
        if budgets.stopped and (reason := budgets.reason(*self._names)):
            return Hold(reason, False, True)
        reason = self._pressure.reason(windows, payload)
        return Hold(reason, True) if reason else None
