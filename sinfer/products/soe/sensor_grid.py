"""Readings of several sensors on one grid of seconds, with gaps filled by one rule. Pure.

The rule, for each sensor:

1. A cell is one second, ``[k, k + 1)``, and takes the last reading of it.
2. An empty cell repeats the cell before it; those before the first reading take that reading. So
   there is a number in every cell, which is what models want.
3. A cell is *known* when it was measured, or repeats one that was measured at most ``max_gap``
   cells before. The rest is padding, and the model is told so.
4. A sensor whose last cell is not known is *stale*: nobody can say what it measures now.

With ``max_gap`` 2::

    read     .  .  5  .  .  .  7  .
    value    5  5  5  5  5  5  7  7
    known    -  -  x  x  x  -  x  x
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one sensor.

    Attributes:
        time: when it was measured, seconds since the epoch.
    """

    sensor: str
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Grid:
    """What the sensors measured, second by second.

    Attributes:
        values: a row for each sensor, a column for each second; 0 for a sensor without readings.
        known: of the same shape: whether the cell is measured or recent, and not padding.
        stale: sensors whose last cell is not known.
    """

    values: list[list[float]]
    known: list[list[bool]]
    stale: list[str]


def align(
    readings: Iterable[Reading], sensors: Sequence[str], start: float, seconds: int, max_gap: int
) -> Grid:
    """Put readings on a grid.

    Args:
        readings: in any order; those of other sensors or times are left out.
        sensors: the rows.
        start: where the first cell begins, seconds since the epoch.
        seconds: the number of columns.
        max_gap: for how many cells after a measured one the value still counts as known.
    """
    cells: dict[str, dict[int, float]] = {sensor: {} for sensor in sensors}
    for reading in sorted(readings, key=lambda reading: reading.time):
        if reading.sensor in cells:
            cells[reading.sensor][math.floor(reading.time - start)] = reading.value
    rows = [_row(measured, seconds, max_gap) for measured in cells.values()]
    return Grid(
        values=[values for values, _ in rows],
        known=[known for _, known in rows],
        stale=[name for name, (_, known) in zip(sensors, rows, strict=True) if not known[-1]],
    )


def _row(measured: dict[int, float], seconds: int, max_gap: int) -> tuple[list[float], list[bool]]:
    places = [place for place in measured if 0 <= place < seconds]
    value = measured[min(places)] if places else 0.0
    values, known = [], []
    age = max_gap + 1
    for place in range(seconds):
        age = 0 if place in measured else age + 1
        value = measured.get(place, value)
        values.append(value)
        known.append(age <= max_gap)
    return values, known
