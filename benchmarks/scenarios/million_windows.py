"""What a partition with a million open windows costs: taking it over, looking at it, its memory.

The measuring is a program of its own, as its memory is a part of what is measured:
``python -m benchmarks.scenarios.million_windows``, with ``SINFER_REDIS_URL`` set.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time

import msgspec

from sinfer.embedded.servers import RedisServer
from sinfer.encoding import to_json
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.partition.writer import PartitionWriter
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import CountWindow

WINDOWS = 1_000_000

_BATCH = 2000
_SPEC = CountWindow(type="count", count=1_000, max_wait="1h")
_SCOPE = Scope("million", "windows", "all")
_PAYLOAD = b"x" * 100
_TIMEOUT_S = 300.0


class MillionWindows(msgspec.Struct):
    """What it costs.

    Attributes:
        windows: how many are open.
        take_over_s: a writer that takes over has read them and can go on, seconds.
        look_ms: what waits is looked at, as every second with ``ack: done``.
        snapshot_ms: it is looked at for ``sinfer status`` and metrics.
        redis_mb, writer_mb: memory of Redis, and of the process that took over.
    """

    windows: int
    take_over_s: float
    look_ms: float
    snapshot_ms: float
    redis_mb: float
    writer_mb: float


async def measure_million_windows() -> MillionWindows:
    """Measure in processes of their own, against a fresh Redis.

    Raises:
        subprocess.SubprocessError: it failed.
    """
    with RedisServer() as redis:
        for step in ("fill", "measure"):
            finished = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-m", "benchmarks.scenarios.million_windows", step],
                env={**os.environ, "SINFER_REDIS_URL": redis.url},
                stdout=subprocess.PIPE,
                check=True,
                timeout=_TIMEOUT_S,
            )
    return msgspec.json.decode(finished.stdout, type=MillionWindows)


def _writer(store: Store) -> PartitionWriter:
    return PartitionWriter(store, _SCOPE, owner="bench", lease_ms=600_000, tracks_first=True)


async def _fill(store: Store) -> None:
    writer, now_ms = _writer(store), await store.now_ms()
    await writer.acquire()
    for first in range(0, WINDOWS, _BATCH):
        entries = [
            Entry(Message(_PAYLOAD, "in", None, seq, seq), str(seq), 0)
            for seq in range(first + 1, first + _BATCH + 1)
        ]
        plan = make_planner(_SPEC, _SCOPE.window_prefix).plan(entries, now_ms)
        await writer.commit(Commit(plan, b"position", (), {"fetched": _BATCH}))
    await writer.release()


async def _measure(store: Store) -> MillionWindows:
    writer = _writer(store)
    await writer.acquire()
    began_s = time.perf_counter()
    state = await writer.load()
    planner = make_planner(_SPEC, _SCOPE.window_prefix, windows=state.windows)
    take_over_s = time.perf_counter() - began_s
    writer_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began_s = time.perf_counter()
    await writer.unfinished(with_dead=True)
    look_ms = 1000 * (time.perf_counter() - began_s)
    began_s = time.perf_counter()
    seen = await snapshot(store, _SCOPE)
    snapshot_ms = 1000 * (time.perf_counter() - began_s)
    assert seen.sizes.open == sum(1 for _ in planner.open_windows()) == WINDOWS
    used = (await store.redis.info("memory"))["used_memory"] / 2**20
    return MillionWindows(WINDOWS, take_over_s, look_ms, snapshot_ms, used, writer_mb)


async def _main(step: str) -> None:
    store = Store.from_settings()
    if step == "fill":
        await _fill(store)
    else:
        print(to_json(await _measure(store)).decode())
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
