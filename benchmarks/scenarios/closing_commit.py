"""How long Redis takes for a commit in which windows of all keys close: 10:1 sliding windows."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sinfer.embedded.servers import RedisServer
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner import Planner
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import SlidingWindow

KEYS = 500
"""Each has a message in each commit, and a window that closes with it."""

COMMITS = 40

_SPEC = SlidingWindow(type="sliding", size="10s", slide="1s", time="event")
_SLIDE_MS = 1_000
_PANES = 10
_FIRST_MS = 1_700_000_000_000
_PAYLOAD = b"x" * 300
_LOGGED_US = 300
"""Scripts are in the slow log from then on; it would cost much to have all commands in it."""


@dataclass(slots=True)
class ClosingCommits:
    """What Redis took, milliseconds by its own clock.

    Attributes:
        longest_ms: the longest script of each commit, during which nobody else is served.
        total_ms: all scripts of each commit.
    """

    longest_ms: list[float] = field(default_factory=list)
    total_ms: list[float] = field(default_factory=list)


async def measure_closing_commits(commits: int = COMMITS) -> ClosingCommits:
    """Commit batches of 500 messages of 500 keys against a fresh Redis, after the first windows."""
    found = ClosingCommits()
    with RedisServer() as redis:
        store = Store(redis.url)
        try:
            await store.redis.config_set("slowlog-log-slower-than", _LOGGED_US)
            scope = Scope("closing", "sliding", "all")
            writer = PartitionWriter(store, scope, owner="bench", lease_ms=600_000)
            planner: Planner = make_planner(_SPEC, scope.window_prefix)
            await writer.acquire()
            for number in range(_PANES + 1 + commits):
                await store.redis.slowlog_reset()
                closed = await _commit(writer, planner, number)
                if number > _PANES:
                    assert closed == KEYS
                    await _note(store, found)
        finally:
            await store.redis.aclose()
    return found


async def _commit(writer: PartitionWriter, planner: Planner, number: int) -> int:
    """Commit a batch whose event time is a slide later; returns how many windows it closes."""
    now_ms = time.time_ns() // 1_000_000
    time_ms = _FIRST_MS + number * _SLIDE_MS
    entries = []
    for key in range(KEYS):
        seq = number * KEYS + key + 1
        message = Message(_PAYLOAD, "in", None, seq, now_ms * 1_000_000)
        entries.append(Entry(message, str(key), time_ms))
    plan = planner.plan(entries, now_ms)
    await writer.commit(Commit(plan, str((number + 1) * KEYS).encode(), (), {"fetched": KEYS}))
    planner.apply(plan)
    return len(plan.closed)


async def _note(store: Store, found: ClosingCommits) -> None:
    scripts = [
        entry["duration"] / 1000
        for entry in await store.redis.slowlog_get(128)
        if entry["command"].upper().startswith(b"EVALSHA")
    ]
    found.longest_ms.append(max(scripts, default=_LOGGED_US / 1000))
    found.total_ms.append(sum(scripts))
