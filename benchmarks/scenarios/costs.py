"""What a commit and a tick cost with few and with many open windows."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import msgspec

from sinfer.embedded.servers import RedisServer

FEW, MANY = 1_000, 100_000
"""Open windows."""

_TIMEOUT_S = 60.0


class Costs(msgspec.Struct):
    """Medians, milliseconds.

    Attributes:
        commit_few_ms: plan and commit 500 messages of random keys, with 1,000 windows open.
        commit_many_ms: the same with 100,000 windows open.
        tick_ms: a tick that looks at the partition of 100,000 open windows, none of them due.
        tick_due_ms: a tick that finds 500 of them due and closes them.
    """

    commit_few_ms: float
    commit_many_ms: float
    tick_ms: float
    tick_due_ms: float


async def measure_costs() -> Costs:
    """Measure in a process of its own, against a fresh Redis.

    Raises:
        subprocess.SubprocessError: it failed.
    """
    with RedisServer() as redis:
        finished = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "benchmarks.scenarios.open_windows"],
            env={**os.environ, "SINFER_REDIS_URL": redis.url},
            stdout=subprocess.PIPE,
            check=True,
            timeout=_TIMEOUT_S,
        )
    return msgspec.json.decode(finished.stdout, type=Costs)
