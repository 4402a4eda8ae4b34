"""streamz fed by nats-py's ``fetch``: the stack that sinfer replaces.

https://streamz.readthedocs.io. One asyncio process; messages are acknowledged when the results of
their window are published, so that a crash repeats windows rather than loses them. A stream of
streamz has one window in its sink at a time, while further ones wait in its buffer.
"""

from __future__ import annotations

import asyncio
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.harness.gate import opened
from benchmarks.harness.streams import TIMED_IN, WARM_IN, subject
from benchmarks.harness.system import System
from benchmarks.scenarios.product import TIMED, WARM, make_task
from benchmarks.scenarios.workload import WINDOW
from benchmarks.systems.windows import WindowWork
from sinfer.embedded.services import Place, Service, logged
from sinfer.nats.connection import connect
from sinfer.products.example.pipeline import Reading
from sinfer.settings import settings
from sinfer.types.message import Message

_BATCH = 500
_BUFFER = 8
"""Windows that wait for the sink."""
_QUIET_S = 1.0


def _services(place: Place) -> list[Service]:
    command = ["python", "-m", "benchmarks.systems.streamz_loop"]
    return [Service("streamz", command, logged("streamz: ready"), place)]


STREAMZ = System("streamz", _services, package="streamz")


async def pump(client: Client, stream: str, task_id: str) -> None:
    """Read a stream in windows until nothing comes any more."""
    from streamz import Stream

    work = WindowWork(make_task(task_id, WINDOW))
    subscription = await client.jetstream().pull_subscribe(
        subject(stream), durable=f"streamz-{task_id}", stream=stream
    )

    def read(message: Msg) -> tuple[Msg, Reading | None]:
        return message, work.pipeline.preprocess(Message(message.data))

    async def process(window: tuple[tuple[Msg, Reading], ...]) -> None:
        first = window[0][0].metadata.sequence.stream
        await work.process(f"streamz/{first}", [reading for _, reading in window])
        for message, _ in window:
            await message.ack()

    source: Any = Stream(asynchronous=True)
    readings = source.map(read).filter(lambda pair: pair[1] is not None)
    readings.partition(WINDOW).buffer(_BUFFER).sink(process)
    while True:
        try:
            messages = await subscription.fetch(_BATCH, timeout=_QUIET_S)
        except TimeoutError:  # that of nats-py, or of asyncio where the machine is busy
            info = await subscription.consumer_info()
            if not info.num_pending and not info.num_ack_pending:
                break
            continue
        for message in messages:
            await source.emit(message)
    await work.aclose()


async def main() -> None:
    """Warm up, wait for the gate, and go; then stay until told to leave."""
    client = await connect(settings().nats_servers, name="streamz")
    print("streamz: ready", flush=True)
    await pump(client, WARM_IN, WARM)
    await opened()
    await pump(client, TIMED_IN, TIMED)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
