"""What `sinfer demo --product soe` does: two equal units, one of which follows its set-points."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from sinfer.encoding import from_json
from sinfer.nats_connection import connect
from sinfer.products.scenario import Experiment, Progress, Surroundings
from sinfer.products.soe.plot import line_chart
from sinfer.products.soe.reactor import SENSORS
from sinfer.products.soe.simulator import Point, Simulation
from sinfer.products.soe.tasks import DEFAULTS, RESULTS_TABLE, STREAM
from sinfer.products.soe.units import UNITS, add_units
from sinfer.units import parse_duration

PLOT = Path("soe-demo.svg")
"""Objective with and without feedback, in the working directory."""

FOLLOWING, ALONE, IMPOSSIBLE = (unit["id"] for unit in UNITS)
SPEED = 60.0
"""Seconds of the units in one second of the clock: ten minutes pass in ten seconds."""
SHORTEST_S = 120
_STALL_TIMEOUT_S = 30.0
_PLOT_STEP_S = 10

SIZE_S, SLIDE_S = (
    round(parse_duration(DEFAULTS["window"][name]).total_seconds()) for name in ("size", "slide")
)

Answer = Mapping[str, Any]
"""A result as it is stored: see ``pipeline.Answer``."""


@dataclass(slots=True)
class Outcome:
    """What was found.

    Attributes:
        checks: whether something is as it should be, and what.
        data: the figures.
    """

    checks: list[tuple[bool, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether everything is as it should be."""
        return all(right for right, _ in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"ok": self.is_right, "product": "soe", **self.data}

    def lines(self) -> list[str]:
        """For people."""
        lines = [f"{'✔' if right else '✘'} {text}" for right, text in self.checks]
        return [*lines, f"  profit over time, with and without set-points: {self.data['plot']}"]


def expected_windows(start_s: float, seconds: int) -> set[float]:
    """Starts of all windows that hold a reading of ``[start_s, start_s + seconds)``."""
    first = int(start_s) - SIZE_S + SLIDE_S
    return {float(start) for start in range(first, int(start_s) + seconds, SLIDE_S)}


async def _run(place: Surroundings, messages: int, progress: Progress) -> Outcome:
    seconds = max(SHORTEST_S, messages // (len(UNITS) * len(SENSORS)))
    windows = len(expected_windows(0, seconds)) * len(UNITS)
    progress.expect(seconds * len(UNITS) * len(SENSORS), windows)
    client = await connect([place.nats_url], name="sinfer-demo")
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
        watching = asyncio.create_task(_watch(place, windows, progress))
        try:
            _, stored = await asyncio.gather(running, watching)
        finally:
            running.cancel()
            watching.cancel()
            await asyncio.gather(running, watching, return_exceptions=True)
        published = await _published(client)
    finally:
        await client.close()
    return judge(stored, published, simulation.points, simulation.start_s, seconds)


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
        with engine.connect() as connection:
            rows = connection.execute(
                text(f"SELECT result FROM {RESULTS_TABLE} ORDER BY written_at")
            )
            return [from_json(result) for (result,) in rows]
    finally:
        engine.dispose()


async def _published(client: Client) -> list[Answer]:
    """All set-points that JetStream holds."""
    subscription = await client.jetstream().pull_subscribe(
        "soe.setpoints.>", stream=STREAM, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    answers: list[Answer] = []
    with suppress(TimeoutError):
        while True:
            batch = await subscription.fetch(500, timeout=1)
            answers += [from_json(message.data) for message in batch]
    return answers


def judge(
    stored: list[Answer],
    published: list[Answer],
    points: list[Point],
    start_s: float,
    seconds: int,
) -> Outcome:
    """Check results, set-points and profits, and draw the plot."""
    outcome = Outcome()
    windows = expected_windows(start_s, seconds)
    expected = Counter((unit["id"], start) for unit in UNITS for start in windows)
    found = Counter((_unit(answer), answer["start"]) for answer in stored)
    text = f"{len(stored)} results for {len(expected)} windows of {len(UNITS)} units"
    if found == expected:
        text = f"{len(stored)} results, exactly one for each window of each unit"
    else:
        text += f": {(expected - found).total()} missing, {(found - expected).total()} too many"
    outcome.checks.append((found == expected, text))

    sent = Counter((_unit(answer), answer["start"]) for answer in published)
    converged = Counter(
        (FOLLOWING, answer["start"])
        for answer in stored
        if _unit(answer) == FOLLOWING and answer["status"] == "converged"
    )
    text = f"{len(published)} set-points sent: one for each answer that converged, of {FOLLOWING}"
    outcome.checks.append((bool(sent) and sent == converged, text))

    statuses = Counter(answer["status"] for answer in stored if _unit(answer) == IMPOSSIBLE)
    text = f"{IMPOSSIBLE}, which cannot be as pure as asked for: {dict(statuses)}, none of it sent"
    is_infeasible = statuses["converged"] == 0 and statuses["infeasible"] > 0
    outcome.checks.append((is_infeasible, text))

    profits = {
        unit: fmean(point.profit for point in points if point.unit == unit)
        for unit in (FOLLOWING, ALONE)
    }
    gain = profits[FOLLOWING] - profits[ALONE]
    share = gain / abs(profits[ALONE])
    text = (
        f"profit with set-points {profits[FOLLOWING]:.1f} €/h, without {profits[ALONE]:.1f} €/h:"
        f" {share:+.0%}"
    )
    outcome.checks.append((gain > 0, text))

    PLOT.write_text(_plot(points, start_s))
    outcome.data = {
        "results": len(stored),
        "windows": len(expected),
        "statuses": dict(Counter(answer["status"] for answer in stored)),
        "setpoints_sent": len(published),
        "profit_with": round(profits[FOLLOWING], 2),
        "profit_without": round(profits[ALONE], 2),
        "plot": str(PLOT),
        "checks": [{"ok": right, "text": text} for right, text in outcome.checks],
    }
    return outcome


def _unit(answer: Answer) -> str:
    return f"{answer['plant']}.{answer['unit']}"


def _plot(points: list[Point], start_s: float) -> str:
    names = {
        FOLLOWING: f"with set-points ({FOLLOWING})",
        ALONE: f"without ({ALONE})",
    }
    lines = {}
    for unit, name in names.items():
        profits: dict[int, list[float]] = {}
        for point in points:
            if point.unit == unit:
                profits.setdefault(int(point.time - start_s) // _PLOT_STEP_S, []).append(
                    point.profit
                )
        lines[name] = [((n + 0.5) * _PLOT_STEP_S, fmean(values)) for n, values in profits.items()]
    return line_chart("Profit of two equal reactors", "seconds", "€/h", lines)


def _prepare(environment: Mapping[str, str]) -> None:
    add_units(environment["SOE_DATABASE_URL"], UNITS)


scenario = Experiment(
    product="soe",
    streams={STREAM: ["soe.>"]},
    environment=lambda model_url, database_url: {
        "SOE_MODEL_URL": model_url,
        "SOE_DATABASE_URL": database_url,
    },
    model_server="sinfer.products.soe.model_server",
    prepare=_prepare,
    run=_run,
)
