"""What an ingestor has once, and all of its partitions use."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field

from sinfer.ingest.backpressure import MemoryPressure
from sinfer.ingest.grouped_logs import Announcements
from sinfer.ingest.leases import LeaseKeeper
from sinfer.ingest.memory_budgets import TaskBudgets
from sinfer.ingest.windower import Refusals
from sinfer.logging.troubles import Troubles
from sinfer.source.pull import PullTiming
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.connection import Store
from sinfer.store.durability import Durability
from sinfer.store.hints import Hints
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope

_OPENING_AT_ONCE = 32

_FRESH_S = 0.5
"""How long it is known which partitions are stored."""


@dataclass(slots=True)
class Ingestor:
    """One for each ingestor.

    Attributes:
        store: the window store.
        hints: who tells the workers.
        pauses: what is paused, kept fresh by the supervisor.
        budgets: which tasks take too much of Redis' memory, kept fresh by the supervisor.
        memory: whether Redis is nearly full, kept fresh by the supervisor.
        owner: name of the ingestor, unique among all.
        leases: keeps the writer leases.
        announcements: gathers log lines.
        timing: how long pull requests live; longer where there are many partitions.
        opening: limits how many partitions open at once.
        refusals: of each partition.
        troubles: what keeps partitions, or all of the ingestor, from moving.
        durability: whether Redis has kept what was stored.
    """

    store: Store
    hints: Hints
    pauses: PauseBoard
    memory: MemoryPressure
    owner: str
    leases: LeaseKeeper
    announcements: Announcements = field(default_factory=Announcements)
    timing: PullTiming = field(default_factory=PullTiming)
    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OPENING_AT_ONCE))
    refusals: defaultdict[Scope, Refusals] = field(default_factory=lambda: defaultdict(Refusals))
    troubles: Troubles = field(default_factory=Troubles)
    durability: Durability = field(init=False)
    budgets: TaskBudgets = field(init=False)

    _stored: tuple[float, list[Scope]] = field(init=False, default=(float("-inf"), []))

    async def stored_partitions(self) -> list[Scope]:
        """Partitions in the store, of all products, as of a moment ago: many that open at once ask.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        looked_s, found = self._stored
        if time.monotonic() - looked_s > _FRESH_S:
            began_s = time.monotonic()
            found = await Schedule(self.store).partitions()
            self._stored = began_s, found
        return found

    def __post_init__(self) -> None:
        self.durability = Durability(self.store)
        self.budgets = TaskBudgets(self.store)
