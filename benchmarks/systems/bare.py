"""The limit: one asyncio process, continuous pull, nothing durable.

What it holds is lost when it dies, and nothing bounds or retries anything. All that sinfer adds to
this is what its guarantees cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client

from benchmarks.harness.gate import opened
from benchmarks.harness.system import System
from benchmarks.scenarios.product import TIMED, WARM, make_task
from benchmarks.scenarios.workload import WINDOW
from benchmarks.systems.windows import WindowWork
from sinfer.embedded.services import Place, Service, logged
from sinfer.nats.connection import connect
from sinfer.products.example.pipeline import Reading
from sinfer.settings import settings
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition

_QUIET_S = 1.0


def _services(place: Place) -> list[Service]:
    command = ["python", "-m", "benchmarks.systems.bare"]
    return [Service("bare", command, logged("bare: ready"), place)]


BARE = System("bare", _services)


async def pump(client: Client, task: Mapping[str, Any]) -> None:
    """Read a stream in windows until nothing comes any more."""
    work = WindowWork(task)
    source = JetStreamSource.model_validate(task["source"])
    reader = await Attachment.open(
        client, SourcePartition(source, source.partition_subjects[0], "bare")
    )
    places = asyncio.Semaphore(work.concurrency)
    readings: list[Reading] = []

    async def process(first_seq: int, window: list[Reading]) -> None:
        try:
            await work.process(f"bare/{first_seq}", window)
        finally:
            places.release()

    async with asyncio.TaskGroup() as windows:
        while (batch := await reader.next_batch(source.batch, _QUIET_S)) is not None:
            for message in batch.messages:
                reading = work.pipeline.preprocess(message)
                if reading is None:
                    continue
                readings.append(reading)
                if len(readings) == WINDOW:
                    await places.acquire()
                    windows.create_task(process(message.stream_seq, readings))
                    readings = []
    await reader.aclose()
    await work.aclose()


async def main() -> None:
    """Warm up, wait for the gate, and go; then stay until told to leave."""
    client = await connect(settings().nats_servers, name="bare")
    print("bare: ready", flush=True)
    await pump(client, make_task(WARM, WINDOW))
    await opened()
    await pump(client, make_task(TIMED, WINDOW))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
