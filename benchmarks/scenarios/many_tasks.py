"""What many quiet tasks cost one ingestor: until all of them read, and while nothing comes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

import psutil
from redis.asyncio import Redis

from benchmarks.harness.cpu import cpu_seconds
from benchmarks.harness.place import place_of
from benchmarks.harness.streams import TIMED_IN
from benchmarks.scenarios.many_tasks_product import COUNT_VARIABLE, NAME, subject_of, task_id
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Service, ingest_service
from sinfer.errors import UnavailableError
from sinfer.nats.connection import connect
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope

TASKS = 1_000
IDLE_S = 10.0
"""How long the idle ingestor is watched."""

_SETTLE_S = 2.0
_TIMEOUT_S = 60.0
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class ManyTasks:
    """What was measured.

    Attributes:
        tasks: how many there were.
        start_s: from the start of the process until all of them read.
        idle_cpu: share of a core that the idle process takes.
        rss_mb: memory of the process.
    """

    tasks: int
    start_s: float
    idle_cpu: float
    rss_mb: float


async def measure_many_tasks(tasks: int = TASKS) -> ManyTasks:
    """Start an ingestor of so many tasks, and watch it idle.

    Raises:
        UnavailableError: it ended, or not all tasks read in time.
    """
    with BackingServers() as servers:
        servers.start()
        place = place_of(servers)
        environment = {
            **place.environment,
            COUNT_VARIABLE: str(tasks),
            "SINFER_PRODUCTS": "benchmarks.scenarios.many_tasks_product",
        }
        client = await connect([servers.nats.url], name="bench")
        redis = Redis.from_url(servers.redis.url)
        try:
            await client.jetstream().add_stream(name=TIMED_IN, subjects=[f"{TIMED_IN}.*"])
            started = time.monotonic()
            ingest = ingest_service(replace(place, environment=environment), NAME)
            servers.run(ingest.process)
            await _wait_for_all(redis, ingest, tasks)
            start_s = time.monotonic() - started
            await asyncio.sleep(_SETTLE_S)
            before_s, since = cpu_seconds({NAME: ingest.process})[NAME], time.monotonic()
            await asyncio.sleep(IDLE_S)
            used_s = cpu_seconds({NAME: ingest.process})[NAME] - before_s
            idle_cpu = used_s / (time.monotonic() - since)
            ingest.check()
            rss = psutil.Process(ingest.process.pid).memory_info().rss
        finally:
            await client.close()
            await redis.aclose()
    return ManyTasks(tasks, start_s, idle_cpu, rss / 1e6)


async def _wait_for_all(redis: Redis, ingest: Service, tasks: int) -> None:
    """Return once every task has stored its beginning, which it does when it reads."""
    scopes = [Scope(NAME, task_id(number), subject_of(number)) for number in range(tasks)]
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        pipeline = redis.pipeline(transaction=False)
        for scope in scopes:
            pipeline.hexists(PartitionKeys(scope).meta, "commits")
        ready = sum(await pipeline.execute())
        if ready == tasks:
            return
        ingest.check()
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"only {ready} of {tasks} tasks read after {_TIMEOUT_S:.0f} s:\n"
                f"{ingest.process.tail()}"
            )
        await asyncio.sleep(_LOOK_S)
