"""Simulated units on NATS: ``python -m sinfer.products.soe.simulator --seconds 600 --speed 10``.

They publish their readings on ``soe.<plant>.<unit>.<sensor>`` and follow the set-points that come
on ``soe.setpoints.<plant>.<unit>``, so that they earn more with soe than without. Time is that of
the readings: it may run faster than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from sinfer.encoding import from_json, to_json
from sinfer.errors import SinferError
from sinfer.nats.connection import connect
from sinfer.nats.whereabouts import errors_told
from sinfer.products.soe.reactor import Reactor
from sinfer.products.soe.tasks import STREAM
from sinfer.products.soe.units import START, UNITS
from sinfer.settings import settings

FIRST_TIME_S = 1_700_000_000
"""Time of the first reading in a new stream, seconds since the epoch."""
_PAUSE_S = 120
"""From the last reading that is in the stream to the first of another run."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a unit earned at a time, by its own sensor."""

    unit: str
    time: float
    profit: float


class Simulation:
    """Units that run side by side. Units of the same settings measure the same.

    Args:
        client: connected to NATS.
        units: their ids, ``plant.unit``.
        speed: seconds of theirs in one second of the clock.
        follow: units that are not to run ahead of their set-points.
        max_lag_s: by how much they may, in seconds of theirs.
        patience_s: go on without set-points that have not come after so long, by the clock.
        on_published: is called with the number of readings that were stored.

    Attributes:
        reactors: the units, by id.
        start_s: time of the first reading; known once it runs.
        points: what the units earned.
    """

    def __init__(
        self,
        client: Client,
        units: Iterable[str],
        *,
        speed: float = 1.0,
        follow: Collection[str] = (),
        max_lag_s: float = 30.0,
        patience_s: float = 3.0,
        on_published: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._client = client
        self._jetstream = client.jetstream()
        self.reactors = {unit: Reactor(START) for unit in units}
        self._speed = speed
        self._follow = set(follow)
        self._max_lag_s = max_lag_s
        self._patience_s = patience_s
        self._on_published = on_published
        self._newest: dict[str, float] = {}
        self._gave_up_s = float("-inf")
        self._news = asyncio.Event()
        self.start_s = float(FIRST_TIME_S)
        self.points: list[Point] = []

    async def run(self, seconds: int) -> None:
        """Let so much time pass, a reading of each sensor a second."""
        await self._jetstream.add_stream(name=STREAM, subjects=["soe.>"])
        self.start_s = await self._first_time()
        self._newest = dict.fromkeys(self.reactors, self.start_s)
        subscription = await self._client.subscribe("soe.setpoints.>", cb=self._take)
        began = time.monotonic()
        try:
            for second in range(seconds):
                await asyncio.sleep(began + second / self._speed - time.monotonic())
                began += await self._wait_for_setpoints(self.start_s + second)
                await self._publish(self.start_s + second)
        finally:
            await subscription.unsubscribe()

    async def _first_time(self) -> float:
        """Behind what is in the stream: what came earlier would be late."""
        last = float("-inf")
        for unit in self.reactors:
            with suppress(NotFoundError):
                found = await self._jetstream.get_last_msg(STREAM, f"soe.{unit}.profit")
                last = max(last, from_json(found.data or b"")["time"] + _PAUSE_S)
        return max(last, float(FIRST_TIME_S))

    async def _take(self, message: Msg) -> None:
        answer: dict[str, Any] = from_json(message.data)
        unit = f"{answer['plant']}.{answer['unit']}"
        # A window may be answered late, or twice: the newest counts.
        if unit in self.reactors and answer["end"] > self._newest[unit]:
            self._newest[unit] = answer["end"]
            self.reactors[unit].setpoints.update(answer["setpoints"])
            self._news.set()

    async def _wait_for_setpoints(self, now_s: float) -> float:
        """Wait while set-points lag behind; return for how long, by the clock."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                while now_s - max(self._slowest_s(), self._gave_up_s) > self._max_lag_s:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._gave_up_s = now_s
        return time.monotonic() - began

    def _slowest_s(self) -> float:
        return min((self._newest[unit] for unit in self._follow), default=float("inf"))

    async def _publish(self, now_s: float) -> None:
        acks = []
        for unit, reactor in self.reactors.items():
            reactor.step()
            readings = reactor.measure()
            self.points.append(Point(unit, now_s, readings["profit"]))
            for sensor, value in readings.items():
                data = to_json({"time": now_s, "value": value})
                acks.append(await self._jetstream.publish_async(f"soe.{unit}.{sensor}", data))
        await asyncio.gather(*acks)
        self._on_published(len(acks))


async def _simulate(units: list[str], seconds: int, speed: float) -> None:
    client = await connect(settings().nats_place, name="sinfer-soe-simulator")
    try:
        simulation = Simulation(client, units, speed=speed)
        async with errors_told(client, f"stream {STREAM}"):
            await simulation.run(seconds)
    finally:
        await client.close()
    for unit in units:
        earned = [point.profit for point in simulation.points if point.unit == unit]
        print(f"{unit}: {sum(earned) / len(earned):.1f} €/h on average")


def main() -> None:
    """The command line."""
    known = [unit["id"] for unit in UNITS]
    parser = argparse.ArgumentParser(
        prog="python -m sinfer.products.soe.simulator",
        description="Simulated units that publish readings and follow set-points.",
    )
    parser.add_argument("--unit", action="append", metavar="PLANT.UNIT", help="default: all three")
    parser.add_argument("--seconds", type=int, default=600, help="of the units (%(default)s)")
    parser.add_argument(
        "--speed", type=float, default=10.0, help="their seconds in one of the clock (%(default)s)"
    )
    options = parser.parse_args()
    try:
        asyncio.run(_simulate(options.unit or known, options.seconds, options.speed))
    except SinferError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
