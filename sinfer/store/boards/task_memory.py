"""What ingestors say of the memory that tasks take, for ``sinfer status``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sinfer.store import keys
from sinfer.store.partition.memory_use import MemoryUse
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

TaskName = tuple[str, str]
"""Product and task."""

STOPPED = b"stopped\n"
"""Begins the fields that say why a task is stopped; the others are named after partitions."""

_FRESH_MS = 30_000


def shown(total: int, dead: int) -> str:
    """What a task takes, for people."""
    text = f"it takes {total >> 20} MiB of Redis' memory"
    return f"{text}, {dead >> 20} MiB of that dead letters" if dead > total // 4 else text


def stopped_field(task: TaskName) -> str:
    """The field that says why a task is stopped."""
    product, name = task
    return f"{STOPPED.decode()}{product}\n{name}"


class TaskMemoryBoard:
    """What ingestors say, of their own partitions and tasks. Raises ``UnavailableError`` and
    ``StoreFullError``.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, uses: Mapping[Scope, MemoryUse], now_ms: int) -> None:
        """What partitions take."""
        fields: dict[Any, Any] = {
            str(scope): f"{now_ms} {use.total} {use.dead}" for scope, use in uses.items()
        }
        await self._store.ask(self._store.redis.hset(keys.MEMORY, mapping=fields))

    async def taken(self, since_ms: int) -> dict[TaskName, MemoryUse]:
        """What each task takes in all its partitions. What was said earlier is forgotten."""
        taken: dict[TaskName, MemoryUse] = {}
        old = []
        for name, value in (await self._store.ask(self._store.redis.hgetall(keys.MEMORY))).items():
            if name.startswith(STOPPED):
                continue
            told_ms, total, dead = map(int, value.split())
            if told_ms < since_ms:
                old.append(name)
                continue
            scope = Scope.parse(name.decode())
            before = taken.get((scope.product, scope.task), MemoryUse(0, 0))
            taken[scope.product, scope.task] = MemoryUse(before.total + total, before.dead + dead)
        if old:
            await self._store.ask(self._store.redis.hdel(keys.MEMORY, *old))
        return taken

    async def note_stopped(
        self, stopped: Mapping[TaskName, str], going_on: Iterable[TaskName], now_ms: int
    ) -> None:
        """Which tasks are stopped, and why; and which are no longer."""
        told: dict[Any, Any] = {
            stopped_field(task): f"{now_ms} {why}" for task, why in stopped.items()
        }
        gone = [stopped_field(task) for task in going_on]
        redis = self._store.redis
        if told:
            await self._store.ask(redis.hset(keys.MEMORY, mapping=told))
        if gone:
            await self._store.ask(redis.hdel(keys.MEMORY, *gone))


async def stopped_tasks(store: Store, now_ms: int) -> dict[TaskName, str]:
    """Why tasks are stopped that take too much of Redis' memory.

    Args:
        store: the window store.
        now_ms: the store's time.
    """
    found = await store.ask(store.redis.hgetall(keys.MEMORY))
    stopped = {}
    for name, value in found.items():
        told_ms, _, reason = value.decode().partition(" ")
        if name.startswith(STOPPED) and int(told_ms) >= now_ms - _FRESH_MS:
            product, _, task = name.removeprefix(STOPPED).decode().partition("\n")
            stopped[product, task] = reason
    return stopped
