"""Timing one system: fresh servers, a prefilled stream, a warm-up, and a check of every result.

A run goes like this, for all systems alike:

1. NATS, Redis and the model server start, with empty directories.
2. The messages of the warm-up and of the timed part are put into two streams.
3. The system's processes start. They read the warm-up at once: all modules are imported and all
   connections are made. Its last result is the end of the boot.
4. The gate opens: the system reads the stream of the timed part, as fast as it can. A system with
   a rate finds that stream empty, and its messages are published from now on.
5. All results are read and compared with what they should be.

The time without boot is from the closing of the first window, as its results' headers say, to the
moment JetStream stored the last result; the time with boot adds step 3.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from nats.aio.client import Client

from benchmarks.harness.cpu import cpu_seconds
from benchmarks.harness.gate import open_gate
from benchmarks.harness.latency import latencies_ms
from benchmarks.harness.place import place_of
from benchmarks.harness.results import Found, read, read_results
from benchmarks.harness.streams import (
    TIMED_IN,
    TIMED_OUT,
    WARM_IN,
    WARM_OUT,
    fill,
    make_streams,
    publish,
    stored,
)
from benchmarks.harness.system import System
from benchmarks.scenarios.workload import WARM_UP, Workload
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Service
from sinfer.errors import UnavailableError
from sinfer.nats.connection import connect
from sinfer.types.queues import PROCESS_TASK

STALL_TIMEOUT_S = 20.0
"""Give a system up when no new result has come for so long."""

SETTLE_S = 5.0
"""Latencies count from then on; sinfer looks for new tasks each second."""

_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Timing:
    """What one run of a system gave.

    Attributes:
        system: its name.
        messages: how many it got.
        boot_s: from the start of its processes to the last result of the warm-up.
        run_s: from the first window's closing to the last result.
        hints: sinfer's Celery messages in the timed part, ticks left out.
        cpu_us: CPU time for each message, by process, microseconds.
        in_flight: most calls that the model had at once in the timed part.
        calls: how many calls it got in the timed part.
        latencies_ms: of each window, where messages come at a rate: see ``latency.py``.
        problem: what is wrong with the results; empty when every message has exactly one.
    """

    system: str
    messages: int
    boot_s: float
    run_s: float
    hints: int = 0
    cpu_us: dict[str, float] = field(default_factory=dict)
    in_flight: int = 0
    calls: int = 0
    latencies_ms: Sequence[float] = ()
    problem: str = ""

    @property
    def per_s(self) -> float:
        """Messages per second, boot excluded."""
        return self.messages / self.run_s

    @property
    def per_s_with_boot(self) -> float:
        """Messages per second, boot included."""
        return self.messages / (self.boot_s + self.run_s)


Watch = Callable[[BackingServers, list[Service]], AbstractAsyncContextManager[None]]
"""Looks on while the timed part runs."""


def nobody(servers: BackingServers, services: list[Service]) -> AbstractAsyncContextManager[None]:
    """Look at nothing."""
    return nullcontext()


async def time_system(system: System, workload: Workload, watch: Watch = nobody) -> Timing:
    """Run a system once.

    Args:
        system: what runs.
        workload: its messages, and the results that they must have.
        watch: is entered before the gate opens, and left once all results are there.

    Raises:
        UnavailableError: one of its processes ended, or gave no results for too long.
    """
    warm_up = workload.first(WARM_UP)
    with BackingServers() as servers:
        servers.start()
        place = place_of(servers, system.changes)
        client = await connect([servers.nats.url], name="bench")
        try:
            await make_streams(client, work_queue=system.work_queue)
            await fill(client, WARM_IN, warm_up.messages)
            if system.rate is None:
                await fill(client, TIMED_IN, workload.messages)
            services = system.services(place)
            processes = {s.name: s.process for s in services} | {
                server.name: server.process for server in servers.servers
            }
            _delay(servers, system)
            started_s = time.time()
            for service in services:
                servers.run(service.process)
            await wait_for_results(client, services, WARM_OUT, len(warm_up))
            warm = await read_results(client, WARM_OUT, warm_up.results)
            _delay(servers, system)
            hints, used_s = _hints(services), cpu_seconds(processes)
            async with watch(servers, services):
                open_gate(place)
                if system.rate is not None:
                    await publish(client, TIMED_IN, workload.messages, system.rate)
                await wait_for_results(client, services, TIMED_OUT, len(workload))
            hints = _hints(services) - hints
            used_s = {name: s - used_s[name] for name, s in cpu_seconds(processes).items()}
            model = servers.model.stats()
            found = await read_results(client, TIMED_OUT, workload.results)
            checks = [part.check for part in (warm, found)]
            is_right = all(check.is_right for check in checks)
            latencies = await _latencies(client, system, found) if is_right else []
        finally:
            await client.close()
    return Timing(
        system.name,
        len(workload),
        boot_s=warm.last_stored_s - started_s,
        run_s=found.elapsed_s,
        hints=hints,
        cpu_us={name: s * 1e6 / len(workload) for name, s in used_s.items()},
        in_flight=model["max_concurrent"],
        calls=model["requests"],
        latencies_ms=latencies,
        problem="; ".join(check.describe() for check in checks if not check.is_right),
    )


def _delay(servers: BackingServers, system: System) -> None:
    """Begin to count the model's calls, each of which takes so long."""
    servers.model.reset()
    if system.model_ms:
        servers.model.order({"delay_ms": system.model_ms, "count": None})


async def _latencies(client: Client, system: System, found: Found) -> list[float]:
    """The latency of each window but those of the first seconds, when the task has just come."""
    if system.rate is None:
        return []
    published_ns = [message.timestamp_ns for message in await read(client, TIMED_IN)]
    skip = round(system.rate * SETTLE_S / system.items) * system.items
    return latencies_ms(published_ns, found.stored_ns, items=system.items, skip=skip)


async def wait_for_results(
    client: Client, services: list[Service], stream: str, count: int
) -> None:
    """Return once a stream holds so many results; whether they are the right ones is seen later.

    Raises:
        UnavailableError: a process ended, or nothing came for too long.
    """
    seen, news_s = 0, time.monotonic()
    while seen < count:
        await asyncio.sleep(_LOOK_S)
        for service in services:
            service.check()
        found = await stored(client, stream)
        if found > seen:
            seen, news_s = found, time.monotonic()
        elif time.monotonic() - news_s > STALL_TIMEOUT_S:
            tails = "\n".join(f"{s.name}:\n{s.process.tail(10)}" for s in services)
            raise UnavailableError(f"only {seen:,} of {count:,} results in {stream}\n{tails}")


def _hints(services: list[Service]) -> int:
    """Lines of a worker's log that tell of a hint."""
    logs = [service.process.log.read_text(errors="replace") for service in services]
    return sum(
        f"Task {PROCESS_TASK}[" in line and line.endswith("received")
        for log in logs
        for line in log.splitlines()
    )
