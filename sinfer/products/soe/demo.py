"""What `sinfer demo --product soe` does: two equal units, one of which follows its set-points."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import ceil
from tempfile import NamedTemporaryFile

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from sinfer.aio.cancel import end
from sinfer.encoding import from_json, to_json
from sinfer.nats.access import NatsAccess
from sinfer.nats.connection import connect
from sinfer.products.scenario import Experiment, Progress, Publishing, Surroundings
from sinfer.products.soe.demo_results import (
    FOLLOWING,
    Answer,
    Findings,
    expected_windows,
    judge,
    plot,
)
from sinfer.products.soe.reactor import SENSORS, Reactor
from sinfer.products.soe.simulator import FIRST_TIME_S, Simulation
from sinfer.products.soe.tasks import RESULTS_TABLE, STREAM
from sinfer.products.soe.units import START, UNITS, add_units
from sinfer.types.message import Message

SPEED = 60.0
"""Seconds of the units in one second of the clock: ten minutes pass in ten seconds."""
SHORTEST_S = 60
_STALL_TIMEOUT_S = 30.0


async def _run(place: Surroundings, messages: int, progress: Progress) -> Findings:
    seconds = max(SHORTEST_S, messages // (len(UNITS) * len(SENSORS)))
    results = len(expected_windows(0, seconds)) * len(UNITS)
    progress.expect(seconds * len(UNITS) * len(SENSORS), results)
    client = await connect([place.nats_url], name="sinfer-demo", access=NatsAccess())
    try:
        simulation = Simulation(
            client,
            [unit["id"] for unit in UNITS],
            speed=SPEED,
            follow=[FOLLOWING],
            on_published=progress.published,
        )
        progress.say(f"{len(UNITS)} units run for {seconds} s of theirs, {SPEED:g} times as fast")
        running = asyncio.create_task(simulation.run(seconds))
        watching = asyncio.create_task(_watch(place, results, progress))
        try:
            _, stored = await asyncio.gather(running, watching)
        finally:
            await end(running, watching)
        published = await _published(client)
    finally:
        await client.close()
    windows = expected_windows(simulation.start_s, seconds)
    findings = judge(stored, published, simulation.points, windows)
    findings.data["plot"] = await asyncio.to_thread(
        _write, plot(simulation.points, simulation.start_s)
    )
    return findings


def _write(picture: str) -> str:
    """Keep the plot of profit with and without set-points, and return where it is."""
    with NamedTemporaryFile("w", prefix="soe-demo-", suffix=".svg", delete=False) as file:
        file.write(picture)
    return file.name


async def _watch(place: Surroundings, expected: int, progress: Progress) -> list[Answer]:
    """All results in the database, once there are as many as expected or no more arrive."""
    stored: list[Answer] = []
    last_news_s = time.monotonic()
    while len(stored) < expected and time.monotonic() - last_news_s < _STALL_TIMEOUT_S:
        place.check()
        found = await asyncio.to_thread(_rows, place.database_url)
        if len(found) > len(stored):
            last_news_s = time.monotonic()
            progress.arrived(found[len(stored) :])
            stored = found
        await asyncio.sleep(0.2)
    return stored


def _rows(database_url: str) -> list[Answer]:
    from sqlalchemy import create_engine, inspect, text

    engine = create_engine(database_url)
    try:
        if not inspect(engine).has_table(RESULTS_TABLE):
            return []
        query = text(f"SELECT result FROM {RESULTS_TABLE} ORDER BY written_at")
        with engine.connect() as connection:
            return [from_json(result) for (result,) in connection.execute(query)]
    finally:
        engine.dispose()


async def _published(client: Client) -> list[Answer]:
    """All set-points that JetStream holds."""
    subscription = await client.jetstream().pull_subscribe(
        "soe.setpoints.>", stream=STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    answers: list[Answer] = []
    with suppress(TimeoutError):  # there are no more
        while True:
            batch = await subscription.fetch(500, timeout=1)
            answers += [from_json(message.data) for message in batch]
    return answers


def _environment(model_url: str, database_url: str) -> Mapping[str, str]:
    return {"SOE_MODEL_URL": model_url, "SOE_DATABASE_URL": database_url}


def _prepare(environment: Mapping[str, str]) -> None:
    add_units(environment["SOE_DATABASE_URL"], UNITS)


async def _publish(order: Publishing) -> None:
    """Let the units run; they follow the set-points that come meanwhile."""
    each_second = len(UNITS) * len(SENSORS)
    simulation = Simulation(
        order.client,
        [unit["id"] for unit in UNITS],
        speed=SPEED if order.rate is None else order.rate / each_second,
        on_published=order.published,
    )
    await simulation.run(ceil(order.messages / each_second))


def _samples(count: int) -> Iterator[Message]:
    """Readings of units that follow no set-points."""
    reactors = {unit["id"]: Reactor(START) for unit in UNITS}
    each_second = len(UNITS) * len(SENSORS)
    for second in range(ceil(count / each_second)):
        for unit, reactor in reactors.items():
            reactor.step()
            for sensor, value in reactor.measure().items():
                reading = {"time": float(FIRST_TIME_S + second), "value": value}
                yield Message(to_json(reading), f"soe.{unit}.{sensor}")


scenario = Experiment(
    product="soe",
    streams={STREAM: ["soe.>"]},
    environment=_environment,
    model_server="sinfer.products.soe.model_server",
    prepare=_prepare,
    run=_run,
    publish=_publish,
    samples=_samples,
)
