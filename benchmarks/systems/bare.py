"""The limit: one asyncio process, continuous pull, nothing durable.

What it holds is lost when it dies, and nothing bounds or retries anything. All that sinfer adds to
this is what its guarantees cost.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from nats.aio.client import Client

from benchmarks.harness.gate import opened
from benchmarks.harness.system import System
from benchmarks.scenarios.keyed_product import KeyedPipeline
from benchmarks.scenarios.product import TIMED, WARM, make_task
from benchmarks.scenarios.workload import WINDOW
from benchmarks.systems.windows import WindowWork
from sinfer.embedded.services import Place, Service, logged
from sinfer.nats.connection import connect
from sinfer.products.example.pipeline import ExamplePipeline, Reading
from sinfer.settings import settings
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition

_QUIET_S = 1.0
_AT_ONCE = 8


def bare_system(name: str, *options: str, items: int = WINDOW, **more: Any) -> System:
    """A bare loop.

    Args:
        name: of the system.
        options: of this module's command line.
        items: messages in a window.
        more: of the system.
    """
    command = ["python", "-m", "benchmarks.systems.bare", "--items", str(items), *options]

    def services(place: Place) -> list[Service]:
        return [Service("bare", command, logged("bare: ready"), place)]

    return System(name, services, items=items, **more)


BARE = bare_system("bare")


class _Pump:
    """Reads a stream in windows until nothing comes any more.

    Args:
        client: of NATS.
        options: the command line.
        task: settings, as for sinfer.
    """

    def __init__(
        self, client: Client, options: argparse.Namespace, task: Mapping[str, Any]
    ) -> None:
        self._client, self._options, self._task = client, options, task
        pipeline = KeyedPipeline if options.keyed else ExamplePipeline
        self._work = WindowWork(task, pipeline, plain=options.plain)
        self._places = asyncio.Semaphore(options.at_once)
        self._windows: dict[str, list[Reading]] = defaultdict(list)
        self._packed: list[Reading] = []
        self._full = options.items * options.pack
        self._calls = 0

    async def run(self) -> None:
        """Read, and return when all is done."""
        source = JetStreamSource.model_validate(self._task["source"])
        reader = await Attachment.open(
            self._client, SourcePartition(source, source.partition_subjects[0], "bare")
        )
        async with asyncio.TaskGroup() as calls:
            while (batch := await reader.next_batch(source.batch, _QUIET_S)) is not None:
                for message in batch.messages:
                    reading = self._work.pipeline.preprocess(message)
                    if reading is not None and (full := self._add(reading)):
                        await self._start(calls, full)
                if self._packed and not self._windows:
                    await self._start(calls, self._packed)  # there is nothing to wait for
                    self._packed = []
        await reader.aclose()
        await self._work.aclose()

    def _add(self, reading: Reading) -> Sequence[Reading]:
        """Put it into its window; what is to be asked now, if that fills it."""
        key = self._work.pipeline.key(reading) if self._options.keyed else ""
        window = self._windows[key]
        window.append(reading)
        if len(window) < self._options.items:
            return ()
        self._packed += self._windows.pop(key)
        if len(self._packed) < self._full:
            return ()
        full, self._packed = self._packed, []
        return full

    async def _start(self, calls: asyncio.TaskGroup, readings: Sequence[Reading]) -> None:
        await self._places.acquire()
        self._calls += 1
        calls.create_task(self._process(f"bare/{self._calls}", readings))

    async def _process(self, window_id: str, readings: Sequence[Reading]) -> None:
        try:
            await self._work.process(window_id, readings)
        finally:
            self._places.release()


async def main(options: argparse.Namespace) -> None:
    """Warm up, wait for the gate, and go; then stay until told to leave."""
    client = await connect(settings().nats_servers, name="bare")
    print("bare: ready", flush=True)
    await _Pump(client, options, make_task(WARM, options.items)).run()
    await opened()
    await _Pump(client, options, make_task(TIMED, options.items)).run()
    await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.systems.bare", description=__doc__)
    parser.add_argument("--items", type=int, default=WINDOW, help="messages in a window")
    parser.add_argument("--keyed", action="store_true", help="windows are of one key each")
    parser.add_argument("--pack", type=int, default=1, help="windows in a call")
    parser.add_argument("--plain", action="store_true", help="plain httpx, no client of sinfer's")
    parser.add_argument("--at-once", type=int, default=_AT_ONCE, help="calls at once")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(_options()))
