"""How much Redis memory a buffered message takes: ingest with nobody to take the windows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from redis.asyncio import Redis

from benchmarks.harness.gate import open_gate
from benchmarks.harness.place import place_of
from benchmarks.harness.streams import TIMED_IN, WARM_IN, fill, make_streams, subject
from benchmarks.scenarios.product import TIMED, WARM
from benchmarks.scenarios.workload import WARM_UP, Workload
from benchmarks.systems.sinfer import PRODUCT
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Service, ingest_service
from sinfer.errors import UnavailableError
from sinfer.nats.connection import connect
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope

MOST = 50_000
"""Messages at most: their windows must stay below ``limits.max_pending_windows``."""

_TIMEOUT_S = 30.0
_LOOK_S = 0.05
_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What buffered messages take.

    Attributes:
        messages: how many were buffered.
        message_bytes: their mean payload.
        redis_bytes: growth of Redis' ``used_memory`` for each.
    """

    messages: int
    message_bytes: float
    redis_bytes: float

    @property
    def limit_bytes(self) -> float:
        """The most that is asked for."""
        return 1.3 * self.message_bytes + 64


async def measure_memory(workload: Workload) -> Memory:
    """Ingest without workers.

    Raises:
        UnavailableError: the ingest ended or did not get through.
    """
    workload = workload.first(MOST)
    warm_up = workload.first(WARM_UP)
    with BackingServers() as servers:
        servers.start()
        place = place_of(servers)
        client = await connect([servers.nats.url], name="bench")
        redis = Redis.from_url(servers.redis.url)
        try:
            await make_streams(client)
            await fill(client, WARM_IN, warm_up.messages)
            await fill(client, TIMED_IN, workload.messages)
            ingest = ingest_service(place, PRODUCT)
            servers.run(ingest.process)
            await _wait_for(redis, ingest, WARM, WARM_IN, len(warm_up))
            before = await _used(redis)
            open_gate(place)
            await _wait_for(redis, ingest, TIMED, TIMED_IN, len(workload))
            after = await _used(redis)
        finally:
            await client.close()
            await redis.aclose()
    size = sum(map(len, workload.messages)) / len(workload)
    return Memory(len(workload), size, (after - before) / len(workload))


async def _wait_for(redis: Redis, ingest: Service, task: str, stream: str, count: int) -> None:
    """Return once so many messages of a task are stored in Redis."""
    keys = PartitionKeys(Scope("bench", task, subject(stream)))
    deadline = time.monotonic() + _TIMEOUT_S
    while int(await redis.hget(keys.meta, "fetched") or 0) < count:
        ingest.check()
        if time.monotonic() > deadline:
            raise UnavailableError(f"task {task} is not ingested:\n{ingest.process.tail()}")
        await asyncio.sleep(_LOOK_S)


async def _used(redis: Redis) -> int:
    """Memory in use, once Redis has given back the buffers of its connections."""
    await asyncio.sleep(_SETTLE_S)
    return int((await redis.info("memory"))["used_memory"])
