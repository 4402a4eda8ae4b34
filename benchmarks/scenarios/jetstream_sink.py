"""Results per second of the jetstream sink against an embedded NATS server.

``python -m benchmarks.scenarios.jetstream_sink --seconds 3``
"""

from __future__ import annotations

import argparse
import asyncio
import time

import nats

from sinfer.embedded.servers import NatsServer
from sinfer.sinks import JetStreamSink
from sinfer.types.result import ResultRow, WindowResults

SUBJECT = "bench.out"
RESULT = b'{"id":123456,"y":[0.123,0.456,0.789],"label":"' + b"x" * 100 + b'"}'


def window(number: int, rows: list[ResultRow]) -> WindowResults:
    """One of many windows with the same results."""
    base_id = f"bench/in.w1/all/{number}"
    return WindowResults(
        product="bench",
        task="bench",
        partition="in.w1",
        key="all",
        window_id=f"{base_id}/0",
        base_id=base_id,
        revision=0,
        attempt=1,
        start_ms=None,
        end_ms=None,
        close_reason="count",
        closed_ms=time.time_ns() // 1_000_000,
        rows=rows,
    )


async def measure(
    url: str, *, seconds: float, results: int, concurrency: int
) -> tuple[float, float]:
    """Write windows for so long.

    Args:
        url: of the NATS server.
        seconds: how long.
        results: of each window.
        concurrency: windows that are written at once.

    Returns:
        Results per second, and microseconds of this process's CPU time for each.
    """
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="BENCH", subjects=[SUBJECT])
    await client.close()
    sink = JetStreamSink(JetStreamSink.Config(servers=[url], subject=SUBJECT))
    rows = [ResultRow(ordinal, RESULT) for ordinal in range(results)]
    await sink.write(window(-1, rows))
    written = 0
    began, cpu_began = time.perf_counter(), time.process_time()

    async def write(first: int) -> None:
        nonlocal written
        number = first
        while time.perf_counter() - began < seconds:
            await sink.write(window(number, rows))
            written += results
            number += concurrency

    await asyncio.gather(*(write(first) for first in range(concurrency)))
    took, cpu_took = time.perf_counter() - began, time.process_time() - cpu_began
    await sink.aclose()
    return written / took, cpu_took / written * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to measure")
    parser.add_argument("--results", type=int, default=100, help="results of each window")
    parser.add_argument("--concurrency", type=int, default=8, help="windows written at once")
    options = parser.parse_args()
    with NatsServer() as server:
        per_second, cpu_us = asyncio.run(measure(server.url, **vars(options)))
    print(f"{per_second:,.0f} results/s, {cpu_us:.1f} µs of CPU each in this process")


if __name__ == "__main__":
    main()
