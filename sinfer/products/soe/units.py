"""Sample units: ``python -m sinfer.products.soe.units`` adds them to the task table.

``north.r1`` follows its set-points. ``north.r2`` is its twin, whose row says ``publish: false``:
answers are stored but never sent, so it shows what happens without. ``south.r1`` must be purer than
it can be, and no set-points can do that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from sinfer.errors import ConfigError
from sinfer.extras import extras_named
from sinfer.products.soe.reactor import SENSORS
from sinfer.products.soe.tasks import DATABASE_URL

START = {"temperature": 371.0, "flow": 2.2}
"""Settings of the units at first: the best ones for a fresh catalyst."""
_BOUNDS = {"temperature": [345.0, 385.0], "flow": [0.5, 2.2], "impurity": [0.0, 0.15]}


def _unit(plant: str, unit: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{plant}.{unit}",
        "plant": plant,
        "unit": unit,
        "sensors": list(SENSORS),
        "bounds": _BOUNDS,
        "objective": {"sensor": "profit", "sense": "maximize"},
        "horizon": "30s",
        **changes,
    }


UNITS = [
    _unit("north", "r1"),
    _unit("north", "r2", sink={"publish": False}),
    _unit("south", "r1", bounds={**_BOUNDS, "impurity": [0.0, 0.004]}),
]


def add_units(url: str, units: Iterable[Mapping[str, Any]]) -> None:
    """Put rows into the table ``soe_tasks``, which is made when it is missing.

    Args:
        url: of the database, as SQLAlchemy names it.
        units: rows; those of the same id are replaced.
    """
    with extras_named():
        from sqlalchemy import JSON, Column, MetaData, String, Table, create_engine, delete, insert

    def text(name: str, **options: Any) -> Column[str]:
        return Column(name, String(128), **options)

    def part(name: str, **options: Any) -> Column[Any]:
        return Column(name, JSON(none_as_null=True), **options)

    table = Table(
        "soe_tasks",
        MetaData(),
        text("id", primary_key=True),
        text("plant", nullable=False),
        text("unit", nullable=False),
        part("sensors", nullable=False),
        part("bounds", nullable=False),
        part("objective", nullable=False),
        # NULL in any of these means: as in ``tasks.DEFAULTS``, or in ``SoeTask``.
        *map(text, ("horizon", "max_gap", "window_size", "window_slide", "window_idle")),
        part("sink"),
    )
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            table.create(connection, checkfirst=True)
            for unit in units:
                connection.execute(delete(table).where(table.c.id == unit["id"]))
                connection.execute(insert(table).values(**unit))
    finally:
        engine.dispose()


def main() -> None:
    """The command line."""
    try:
        add_units(os.environ.get("SOE_DATABASE_URL", DATABASE_URL), UNITS)
    except ConfigError as error:
        sys.exit(f"Error: {error}")
    print(f"units: {', '.join(unit['id'] for unit in UNITS)}")


if __name__ == "__main__":
    main()
