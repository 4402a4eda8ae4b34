"""celery-batches: one Celery message per element, gathered into windows by the worker.

https://github.com/clokep/celery-batches. Two processes beside the worker's two children: this one
reads JetStream and publishes, the worker's own one takes the messages and makes batches of them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client

from benchmarks.harness.gate import opened
from benchmarks.harness.system import System
from benchmarks.scenarios.product import TIMED, WARM, make_task
from benchmarks.scenarios.workload import WINDOW
from sinfer.embedded.services import WORKER_READY, Place, Service, logged
from sinfer.nats.connection import connect
from sinfer.settings import settings
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition

APP = "benchmarks.systems.batches_app"
_QUIET_S = 1.0


def _services(place: Place) -> list[Service]:
    worker = [
        "celery", "-A", APP, "worker", "--concurrency", "2", "--loglevel", "WARNING",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    ]  # fmt: skip
    feed = ["python", "-m", "benchmarks.systems.celery_batches"]
    return [
        Service("worker", worker, WORKER_READY, place),
        Service("feed", feed, logged("feed: ready"), place),
    ]


CELERY_BATCHES = System("celery-batches", _services, share=0.06, package="celery_batches")


async def feed(client: Client, task_id: str, task: Any) -> None:
    """Publish a Celery message for each message of a stream, until nothing comes any more."""
    source = JetStreamSource.model_validate(make_task(task_id, WINDOW)["source"])
    reader = await Attachment.open(
        client, SourcePartition(source, source.partition_subjects[0], "feed")
    )
    with task.app.producer_or_acquire() as producer:
        while (batch := await reader.next_batch(source.batch, _QUIET_S)) is not None:
            for message in batch.messages:
                task.apply_async((message.data.decode(),), producer=producer)
    await reader.aclose()


async def main() -> None:
    """Warm up, wait for the gate, and go; then stay until told to leave."""
    from benchmarks.systems.batches_app import timed, warm

    client = await connect(settings().nats_servers, name="feed")
    print("feed: ready", flush=True)
    await feed(client, WARM, warm)
    await opened()
    await feed(client, TIMED, timed)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
