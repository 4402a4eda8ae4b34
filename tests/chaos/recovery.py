"""What a recovery is, how long it may take, and how it is measured.

A recovery begins when a fault is over: the server takes connections, the network is clear, the
frozen process goes on, the one that was killed has been started (it need not be up yet: others take
over). From then on two times are taken.

- A task *moves again* when one more message has been read into a window and one more has come to
  its end; at the end of the load, when nothing is left of which that could be asked.
- It has *caught up* when all that had been published when the fault ended is read, and as many
  messages have come to their end as were in closed windows then.

To catch up takes as long as the backlog is; to move again is promised to take no longer than a
lease and two ticks. Of the two leases the longer counts: that of the ingestor that reads a
partition. Its tick is its sign of life.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sinfer.ingest.leases import LEASE_MS
from sinfer.store.boards.ingestors import SIGN_OF_LIFE_S
from sinfer.store.partition.account import Account
from tests.chaos.progress import Progress

LONGEST_RECOVERY_S = LEASE_MS / 1000 + 2 * SIGN_OF_LIFE_S

_GIVES_UP_S = 90.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Recovery:
    """How a recovery went.

    Attributes:
        moved_s: until every task moved again.
        caught_up_s: until every task had caught up.
        missing: what had not come when nobody waited any longer; empty when all came.
    """

    moved_s: float
    caught_up_s: float
    missing: str


@dataclass(frozen=True)
class _Mark:
    """How far one task was when a fault ended, and how far it had to come."""

    published: int
    fetched: int
    ended: int
    in_flight: int
    total: int

    def has_moved(self, now: Account) -> bool:
        is_all_read = now.fetched >= self.total
        reads = now.fetched > self.fetched or is_all_read
        ends = _ended(now) > self.ended or (is_all_read and not self.in_flight)
        return reads and ends

    def missing(self, now: Account) -> str:
        """What has not come; empty when it has caught up."""
        unread = self.published - now.fetched
        left = self.ended + self.in_flight - _ended(now)
        return f"{max(0, unread)} unread, {max(0, left)} left" if unread > 0 or left > 0 else ""


async def recover(progress: Progress, published: Mapping[str, int], total: int) -> Recovery:
    """Wait, from now on, until a fault that is just over is behind all tasks.

    Args:
        progress: tells how far they are.
        published: messages that are published, by task.
        total: messages of each task that will be published in all.
    """
    began = time.monotonic()
    published = dict(published)
    marks: dict[str, _Mark] = {}
    moved_s: float | None = None
    while True:
        missing = "Redis does not answer"
        if accounts := await progress.accounts():
            marks = marks or {
                task: _Mark(
                    published[task], account.fetched, _ended(account), account.in_flight, total
                )
                for task, account in accounts.items()
            }
            texts = {task: mark.missing(accounts[task]) for task, mark in marks.items()}
            missing = "; ".join(f"{task}: {text}" for task, text in texts.items() if text)
            if moved_s is None and all(marks[task].has_moved(accounts[task]) for task in marks):
                moved_s = time.monotonic() - began
        took_s = time.monotonic() - began
        if (moved_s is not None and not missing) or took_s > _GIVES_UP_S:
            missing = missing or ("nothing moves" if moved_s is None else "")
            return Recovery(took_s if moved_s is None else moved_s, took_s, missing)
        await asyncio.sleep(_LOOK_S)


def _ended(account: Account) -> int:
    return account.sunk + account.dead
