"""How far a message and a window travel through the code: functions, files, and entries into files.

``python -m tools.trips`` runs an ingestor in this process, then a worker, on servers of its own. It
follows one message from pull to ack (a named durable, ``ack: stored``) and one window from hint to
complete (JSON to a v2 model, results to JetStream), once nothing is new to anybody any more.

What counts is what runs of sinfer in any thread of the process between the moment when a message is
published, or a hint is followed, and the moment when the consumer has its acknowledgement, or the
window is done:

- functions: those that were called, each once;
- files: those that they are in;
- entries: calls of a function from a function of another file, whatever libraries are in between. A
  coroutine that goes on after it has waited is no call. What the event loop calls enters its file.

Of several trips the one with the fewest entries counts: in the others something else ran as well.
"""

from __future__ import annotations

import argparse
import asyncio
import dis
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import nats
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from redis.asyncio import Redis

from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.servers import NatsServer, RedisServer
from tests.support.host import LoneHost
from tools.trip_product import MESSAGES

ROOT = Path(__file__).parents[1] / "sinfer"
_WARM = 5
_TIMES = 10
_PATIENCE_S = 60.0

GOALS = {"message, pull to ack": (20, 60), "window, hint to complete": (24, 80)}
"""Files, and entries."""


class Step(NamedTuple):
    """A call that entered a file."""

    file: str
    function: str


class Trip(NamedTuple):
    """What ran between two moments."""

    functions: int
    files: int
    steps: list[Step]


class Recorder:
    """Takes note of calls, while it is told to, in all threads that start after it."""

    def __init__(self) -> None:
        self._is_on = False
        self._calls: list[tuple[str, str, bool]] = []
        sys.setprofile(self._note)
        threading.setprofile(self._note)

    def start(self) -> None:
        self._calls = []
        self._is_on = True

    def stop(self) -> Trip:
        self._is_on = False
        calls = self._calls
        return Trip(
            len({call[:2] for call in calls}),
            len({file for file, _, _ in calls}),
            [Step(file, function) for file, function, enters in calls if enters],
        )

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if not self._is_on or event != "call":
            return
        file = _own_file(frame)
        if file is None or _goes_on(frame):
            return
        caller = frame.f_back
        while caller is not None and _own_file(caller) is None:
            caller = caller.f_back
        before = None if caller is None else _own_file(caller)
        self._calls.append((file, frame.f_code.co_qualname, file != before))


_starts: dict[CodeType, int] = {}


def _goes_on(frame: FrameType) -> bool:
    """Whether a coroutine or generator goes on after it has waited."""
    code = frame.f_code
    if code not in _starts:
        found = (one.offset for one in dis.get_instructions(code) if one.opname == "RESUME")
        _starts[code] = next(found, 0)
    return frame.f_lasti > _starts[code]


_files: dict[str, str | None] = {}


def _own_file(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    if name not in _files:
        path = Path(name)
        is_ours = path.is_relative_to(ROOT)
        _files[name] = str(path.relative_to(ROOT.parent)) if is_ours else None
    return _files[name]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look until it holds."""
    async with asyncio.timeout(_PATIENCE_S):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Streams:
    """The stream of messages and that of results."""

    def __init__(self, client: Client) -> None:
        self._jetstream = client.jetstream()
        self.published = 0

    async def make(self) -> None:
        await self._jetstream.add_stream(name="TRIPS", subjects=["trips.in"])
        await self._jetstream.add_stream(name="RESULTS", subjects=["trips.out"])

    async def is_read(self) -> bool:
        """Whether somebody waits for messages."""
        with suppress(NotFoundError):
            return bool((await self._jetstream.consumer_info("TRIPS", "trip")).num_waiting)
        return False

    async def publish(self) -> None:
        await self._jetstream.publish("trips.in", b" ".join([b"0.5"] * 16))
        self.published += 1

    async def is_acked(self) -> bool:
        """Whether all messages are acknowledged."""
        floor = (await self._jetstream.consumer_info("TRIPS", "trip")).ack_floor
        return floor is not None and floor.stream_seq >= self.published

    async def has_results(self) -> bool:
        """Whether there is a result of each message."""
        return (await self._jetstream.stream_info("RESULTS")).state.messages >= self.published


async def follow_messages(recorder: Recorder, streams: Streams) -> Trip:
    """The shortest trip of a message that goes into a window which stays open."""
    from sinfer.ingest.supervisor import Supervisor
    from sinfer.store.connection import Store
    from tools.trip_product import product

    store = Store.from_settings()
    supervisor = Supervisor(store, product, LoneHost().hints)
    running = asyncio.create_task(supervisor.run())
    await until(streams.is_read)
    trips = []
    for number in range((_WARM + _TIMES) * MESSAGES):
        recorder.start()
        await streams.publish()
        await until(streams.is_acked)
        trip = recorder.stop()
        if number >= _WARM * MESSAGES and number % MESSAGES == 1:
            trips.append(trip)
    supervisor.stop()
    await running
    await store.aclose()
    return min(trips, key=lambda trip: len(trip.steps))


async def follow_windows(recorder: Recorder, streams: Streams) -> Trip:
    """The shortest trip of a window; another process ingests."""
    from sinfer.store.connection import Store
    from sinfer.store.keys import partition_keys
    from sinfer.store.work.claims import PartitionClaims
    from sinfer.windows.ids import Scope
    from sinfer.worker.claim_loop import follow_hint
    from sinfer.worker.runtime import Runtime

    scope = Scope("trips", "trip", "trips.in")
    # It follows no wakes: the window would be under way before anybody looks.
    store, runtime = Store.from_settings(), Runtime(LoneHost(), lambda *_: None)
    claims = PartitionClaims(store, scope)
    redis, closed = Redis.from_url(os.environ["SINFER_REDIS_URL"]), partition_keys(scope).closed

    async def is_complete() -> bool:
        """Asked past sinfer's own code, which would count."""
        return not await redis.hlen(closed)

    async def is_closed() -> bool:
        return await claims.waiting() > 0

    async def is_done() -> bool:
        return scope not in runtime.partitions and not await is_closed()

    trips = []
    for number in range(_WARM + _TIMES):
        if number:
            for _ in range(MESSAGES):
                await streams.publish()
        await until(is_closed)
        recorder.start()
        await asyncio.to_thread(runtime.run, follow_hint(runtime, scope, 1))
        await until(is_complete)
        trip = recorder.stop()
        await until(streams.has_results)
        await until(is_done)
        if number >= _WARM:
            trips.append(trip)
    await asyncio.to_thread(runtime.close)
    await store.aclose()
    await redis.aclose()
    return min(trips, key=lambda trip: len(trip.steps))


async def follow() -> dict[str, Trip]:
    """Both trips."""
    recorder = Recorder()
    client = await nats.connect(os.environ["SINFER_NATS_SERVERS"])
    streams = Streams(client)
    await streams.make()
    found = {"message, pull to ack": await follow_messages(recorder, streams)}
    ingest = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sinfer", "ingest", "--product", "tools.trip_product"
    )
    try:
        found["window, hint to complete"] = await follow_windows(recorder, streams)
    finally:
        ingest.terminate()
        await ingest.wait()
    await client.close()
    return found


def main() -> None:
    """Follow both, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tools.trips")
    parser.add_argument("--verbose", action="store_true", help="print each entry into a file")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parser.parse_args()
    with NatsServer() as broker, RedisServer() as redis, ModelServer() as model:
        os.environ |= {
            "SINFER_NATS_SERVERS": broker.url,
            "SINFER_REDIS_URL": redis.url,
            "SINFER_PRODUCTS": "tools.trip_product",
            "TRIPS_MODEL_URL": model.url,
        }
        sys.modules.pop("tools.trip_product")
        found = asyncio.run(follow())
    if options.json:
        print(json.dumps({name: trip._asdict() for name, trip in found.items()}))
        return
    for name, trip in found.items():
        files, entries = GOALS[name]
        if options.verbose:
            for step in trip.steps:
                print(f"  {step.file}: {step.function}")
        print(
            f"{name}: {trip.functions} functions, {trip.files} files (goal {files}),"
            f" {len(trip.steps)} entries (goal {entries})"
        )


if __name__ == "__main__":
    main()
