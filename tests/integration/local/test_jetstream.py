"""`sinfer run` reads JetStream without leaving a trace there."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, RetentionPolicy

from sinfer.clock import ManualClock
from sinfer.embedded.servers import NatsServer
from sinfer.errors import SourceError
from sinfer.local.run import from_jetstream, run_and_close
from sinfer.local.task import LocalTask
from tests.task_settings import Threshold, product_of, settings_of


def local_task(nats_server: NatsServer, stream: str, **source: Any) -> LocalTask:
    source = {"stream": stream, "servers": [nats_server.url], **source}
    task = Threshold.model_validate(settings_of("t", source=source))
    return LocalTask(product_of([]), task, clock=ManualClock(), sinks={})


async def test_the_stream_is_read_to_its_end_and_nobody_misses_anything(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    jetstream = nats_client.jetstream()
    await jetstream.add_stream(name=unique, subjects=[f"{unique}.>"])
    await jetstream.add_consumer(unique, ConsumerConfig(durable_name="production"))
    for number in range(25):
        await jetstream.publish(f"{unique}.{number % 2}", b"m%d" % number)
    task = local_task(
        nats_server, unique, partitions=[f"{unique}.0", f"{unique}.1"], durable="production"
    )
    batches = from_jetstream(task.config.source, until_caught_up=True)
    await run_and_close(task, batches)
    assert task.counts["sunk"] == 25
    assert [found.messages for found in task.windows] == [10, 10, 3, 2]
    assert (await jetstream.consumer_info(unique, "production")).num_pending == 25
    assert (await jetstream.stream_info(unique)).state.consumer_count == 1


async def test_a_stream_that_cannot_be_read_without_a_trace_is_refused(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await nats_client.jetstream().add_stream(
        name=unique, subjects=[unique], retention=RetentionPolicy.WORK_QUEUE
    )
    task = local_task(nats_server, unique)
    with pytest.raises(SourceError, match="workqueue"):
        await run_and_close(task, from_jetstream(task.config.source, until_caught_up=True))
    assert (await nats_client.jetstream().stream_info(unique)).state.consumer_count == 0
