"""Simulated units publish what they measure, and follow the newest set-points."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import nats
import pytest
from nats.aio.client import Client

from sinfer.embedded.servers import NatsServer
from sinfer.encoding import from_json, to_json
from sinfer.products.soe.reactor import SENSORS, Reactor
from sinfer.products.soe.simulator import FIRST_TIME_S, Simulation
from sinfer.products.soe.tasks import STREAM
from sinfer.products.soe.units import START
from tests.support.until import until

FAST = 10_000.0


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A server of its own: units and their stream have fixed names."""
    with NatsServer() as server:
        client = await nats.connect(server.url)
        yield client
        await client.close()


async def stored(client: Client) -> list[tuple[str, float]]:
    """Subject and time of all readings in the stream."""
    jetstream = client.jetstream()
    count = (await jetstream.stream_info(STREAM)).state.messages
    messages = [await jetstream.get_msg(STREAM, seq) for seq in range(1, count + 1)]
    return [(m.subject or "", from_json(m.data or b"")["time"]) for m in messages]


async def send(client: Client, unit: str, end: float, flow: float) -> None:
    """Set-points of a window that ended so many seconds after the first reading."""
    plant, _, name = unit.partition(".")
    answer = {"plant": plant, "unit": name, "end": FIRST_TIME_S + end, "setpoints": {"flow": flow}}
    await client.publish(f"soe.setpoints.{unit}", to_json(answer))


async def test_each_sensor_is_read_once_a_second_of_its_own_time(client: Client) -> None:
    published: list[int] = []
    units = ["north.r1", "north.r2"]
    simulation = Simulation(client, units, speed=FAST, on_published=published.append)
    await simulation.run(4)
    readings = Counter(await stored(client))
    assert readings == Counter(
        (f"soe.{unit}.{sensor}", float(FIRST_TIME_S + second))
        for unit in units
        for sensor in SENSORS
        for second in range(4)
    )
    assert sum(published) == readings.total()
    assert len(simulation.points) == 8


async def test_another_run_goes_on_behind_the_last(client: Client) -> None:
    for _ in range(2):
        simulation = Simulation(client, ["north.r1"], speed=FAST)
        await simulation.run(3)
    assert simulation.start_s == FIRST_TIME_S + 2 + 120
    times = [time for _, time in await stored(client)]
    assert times == sorted(times)


async def test_a_unit_follows_setpoints_but_none_that_are_older(client: Client) -> None:
    units = ["north.r1", "north.r2"]
    simulation = Simulation(client, units, follow=["north.r1"], speed=FAST, max_lag_s=10)
    running = asyncio.create_task(simulation.run(60))
    flows = {unit: simulation.reactors[unit].setpoints for unit in units}
    # It waits for set-points that are at most ten seconds older than its next reading.
    await until(lambda: len(simulation.points) == 2 * 11, "the first seconds")
    await send(client, "north.r1", 20, 1.0)
    await until(lambda: len(simulation.points) == 2 * 31, "what the set-points allow")
    assert flows["north.r1"]["flow"] == 1.0
    await send(client, "north.r1", 10, 0.6)
    await send(client, "north.r2", 10, 0.7)  # behind the other: both have arrived then
    await until(lambda: flows["north.r2"]["flow"] == 0.7, "the older set-points")
    assert flows["north.r1"]["flow"] == 1.0
    await send(client, "north.r1", 50, 1.5)
    await running
    assert flows["north.r1"]["flow"] == 1.5


async def test_a_unit_does_not_wait_for_ever(client: Client) -> None:
    simulation = Simulation(
        client, ["north.r1"], follow=["north.r1"], speed=FAST, max_lag_s=10, patience_s=0.01
    )
    async with asyncio.timeout(10):
        await simulation.run(60)
    assert len(simulation.points) == 60


async def test_twins_measure_the_same_until_their_settings_differ() -> None:
    one, other = Reactor(START, seed=3), Reactor(START, seed=3)
    for _ in range(5):
        one.step()
        other.step()
        assert one.measure() == other.measure()
    other.setpoints["flow"] = 1.0
    one.step()
    other.step()
    assert one.measure()["flow"] > other.measure()["flow"]
