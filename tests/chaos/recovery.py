"""What a recovery is, how long it may take, and how it is measured.

A recovery begins when a fault is over: the server takes connections, the network is clear, the
frozen process goes on, the one that was killed has been started (it need not be up yet: others take
over). It ends when both are true of every task:

- everything that had been published when the fault ended has been read into windows, and
- as many messages have come to their end as were in closed windows when the fault ended.

So it does not count how long a window is open, which is the product's choice, and it does count the
whole backlog that the fault left behind.

It is promised to take no longer than a lease and two ticks. Of the two leases the longer counts:
that of the process that reads a partition. Its tick is the sign of life of an ingestor.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from sinfer.ingest.leases import LEASE_MS
from sinfer.ingest.membership import SIGN_OF_LIFE_S
from tests.chaos.progress import Progress

LONGEST_RECOVERY_S = LEASE_MS / 1000 + 2 * SIGN_OF_LIFE_S

_GIVES_UP_S = 60.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Mark:
    """How far every task has to come until a fault is behind it.

    Attributes:
        fetched: messages to be read, by task.
        ended: messages to be done or dead, by task.
    """

    fetched: Mapping[str, int]
    ended: Mapping[str, int]


@dataclass(frozen=True)
class Recovery:
    """How a recovery went.

    Attributes:
        took_s: how long it took.
        missing: what had not come when nobody waited any longer; empty when all came.
    """

    took_s: float
    missing: str


async def recover(progress: Progress, published: Mapping[str, int]) -> Recovery:
    """Wait, from now on, until a fault that is just over is behind all tasks.

    Args:
        progress: tells how far they are.
        published: messages that are published by now, by task.
    """
    began = time.monotonic()
    mark: Mark | None = None
    published = dict(published)
    while True:
        missing = "Redis does not answer"
        if accounts := await progress.accounts():
            ended = {task: account.sunk + account.dead for task, account in accounts.items()}
            if mark is None:
                in_flight = {task: account.in_flight for task, account in accounts.items()}
                mark = Mark(published, {task: ended[task] + in_flight[task] for task in ended})
            fetched = {task: account.fetched for task, account in accounts.items()}
            behind = _behind("read", fetched, mark.fetched) + _behind("done", ended, mark.ended)
            missing = ", ".join(behind)
        took_s = time.monotonic() - began
        if not missing or took_s > _GIVES_UP_S:
            return Recovery(took_s, missing)
        await asyncio.sleep(_LOOK_S)


def _behind(word: str, have: Mapping[str, int], want: Mapping[str, int]) -> list[str]:
    return [
        f"{task}: {have[task]} of {want[task]} {word}" for task in want if have[task] < want[task]
    ]
