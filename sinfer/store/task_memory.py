"""What ingestors say of the memory that tasks take, for ``sinfer status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store import keys

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
