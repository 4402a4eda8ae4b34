"""The course of the demonstration: publish, watch the results arrive, check every one of them."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from nats.js import JetStreamContext

from sinfer.aio.cancel import end
from sinfer.demo.database import count_rows, read_rows
from sinfer.demo.demo_streams import Arrival, make_streams, publish, results
from sinfer.demo.report import Report
from sinfer.demo.verify import check_sink
from sinfer.embedded.stack import EmbeddedStack
from sinfer.nats.access import NatsAccess
from sinfer.nats.connection import connect
from sinfer.products.scenario import Demonstration, Experiment, Findings, Progress, Scenario

STALL_TIMEOUT_S = 20.0
"""Give up when no new result has arrived for so long."""


async def prepare(stack: EmbeddedStack, scenario: Demonstration) -> None:
    """Make the streams that the product reads and writes, and whatever else it needs."""
    await asyncio.to_thread(scenario.prepare, stack.environment)
    client = await connect([stack.nats_url], name="sinfer-demo", access=NatsAccess())
    try:
        await make_streams(client.jetstream(), scenario.streams)
    finally:
        await client.close()


async def demonstrate(
    stack: EmbeddedStack, scenario: Demonstration, count: int, progress: Progress
) -> Findings:
    """Publish ``count`` messages and find out what became of them.

    Raises:
        UnavailableError: one of the processes ended.
    """
    if isinstance(scenario, Scenario):
        return await _each_case(stack, scenario, count, progress)
    if isinstance(scenario, Experiment):
        return await scenario.run(stack.surroundings, count, progress)
    raise TypeError(f"{scenario!r} is neither a Scenario nor an Experiment")


async def _each_case(
    stack: EmbeddedStack, scenario: Scenario, count: int, progress: Progress
) -> Report:
    progress.expect(count, count)
    progress.say("making the messages")
    cases = list(scenario.cases(count))
    expected = {case.id: case.result for case in cases}
    client = await connect([stack.nats_url], name="sinfer-demo", access=NatsAccess())
    try:
        jetstream = client.jetstream()
        progress.say("publishing")
        publishing = asyncio.create_task(publish(jetstream, cases, progress.published))
        watching = asyncio.create_task(_watch(stack, scenario, jetstream, count, progress))
        try:
            _, arrivals = await asyncio.gather(publishing, watching)
        finally:
            await end(publishing, watching)
        progress.say("checking every result")
        await _wait_for_rows(stack, scenario, count)
        report = Report(scenario.product, count, flower_url=stack.flower_url)
        if arrivals:
            first_ms = await _first_stored_ms(jetstream, cases[0].subject)
            report.elapsed_s = (max(a.stored_ms for a in arrivals) - first_ms) / 1000
        report.latencies_ms = [a.stored_ms - a.closed_ms for a in arrivals]
        in_stream = [arrival.result for arrival in arrivals]
        in_table = await asyncio.to_thread(read_rows, stack.database_path, scenario.results_table)
        for name, found in (
            (f"JetStream {scenario.results_subject}", in_stream),
            (f"SQLite {scenario.results_table}", in_table),
        ):
            report.checks.append(check_sink(name, expected, found, scenario.identify))
        return report
    finally:
        await client.close()


async def _watch(
    stack: EmbeddedStack,
    scenario: Scenario,
    jetstream: JetStreamContext,
    expected: int,
    progress: Progress,
) -> list[Arrival]:
    """Results until there are as many as expected and a second passes without another."""
    arrivals: list[Arrival] = []
    last_news_s = time.monotonic()
    async with aclosing(results(jetstream, scenario.results_subject)) as batches:
        async for batch in batches:
            stack.check()
            if batch:
                arrivals += batch
                last_news_s = time.monotonic()
                progress.arrived([arrival.result for arrival in batch])
            elif len(arrivals) >= expected or time.monotonic() - last_news_s > STALL_TIMEOUT_S:
                return arrivals
    return arrivals


async def _wait_for_rows(stack: EmbeddedStack, scenario: Scenario, expected: int) -> None:
    """Return once the table is complete, or does not grow any more."""
    rows, last_news_s = 0, time.monotonic()
    while rows < expected and time.monotonic() - last_news_s < STALL_TIMEOUT_S / 4:
        stack.check()
        found = await asyncio.to_thread(count_rows, stack.database_path, scenario.results_table)
        if found > rows:
            rows, last_news_s = found, time.monotonic()
        else:
            await asyncio.sleep(0.1)


async def _first_stored_ms(jetstream: JetStreamContext, subject: str) -> float:
    stream = await jetstream.find_stream_name_by_subject(subject)
    message = await jetstream.get_msg(stream, seq=1)
    if message.time is None:
        raise RuntimeError("JetStream gave a message without its time")
    return message.time.timestamp() * 1000
