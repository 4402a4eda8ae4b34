"""The watermark of a whole task: the least of its partitions' that are not idle.

A partition decides membership and lateness by its own watermark alone, so that these depend on
nothing but its own messages. Where a task has several partitions, windows that their own watermark
closed wait, and become ready when the whole task's watermark has passed their end.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.lua import HINT_MS, Argument
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_MOST_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class MadeReady:
    """What became ready.

    Attributes:
        windows: how many windows.
        hint: closed windows that no Celery message is on its way for.
        left: how many wait on.
    """

    windows: int
    hint: int
    left: int


async def task_watermark(store: Store, partitions: Sequence[Scope]) -> float:
    """The least watermark of the partitions that are not idle, milliseconds since the epoch.

    Infinite when all of them are idle; minus infinity while one has not seen an item yet.
    """
    pipeline = store.redis.pipeline(transaction=False)
    for scope in partitions:
        pipeline.hmget(PartitionKeys(scope).meta, ["watermark", "idle"])
    lowest = math.inf
    for watermark, idle in await store.ask(pipeline.execute()):
        if idle != b"1":
            lowest = min(lowest, int(watermark) if watermark else -math.inf)
    return lowest


async def ready_waiting_windows(
    store: Store, scope: Scope, partitions: Sequence[Scope]
) -> MadeReady:
    """Make a partition's windows ready that its task's watermark has passed.

    Args:
        store: the window store.
        scope: the partition.
        partitions: all partitions of the task.
    """
    mark = await task_watermark(store, partitions)
    keys = PartitionKeys(scope)
    names = [keys.meta, keys.awaiting, keys.ready]
    windows = hint = 0
    while True:
        args: list[Argument] = [repr(mark), _MOST_AT_ONCE, HINT_MS, uuid.uuid4().hex]
        reply = await store.run("ready_waiting_windows", names, args)
        windows, hint = windows + int(reply[0]), hint + int(reply[1])
        if int(reply[0]) < _MOST_AT_ONCE:
            return MadeReady(windows, hint, int(reply[2]))
