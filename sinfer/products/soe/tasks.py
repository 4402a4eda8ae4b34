"""Where soe's tasks come from: a row for each unit in the table ``soe_tasks`` of a database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sinfer import SqlTaskManager
from sinfer.config.model import ConfigModel, explain
from sinfer.products.soe.task import SoeTask

STREAM = "SOE"
"""The JetStream stream of all readings and set-points; its subjects are ``soe.>``."""
DATABASE_URL = "sqlite:///soe.sqlite"
"""The database where ``SOE_DATABASE_URL`` names no other."""
RESULTS_TABLE = "soe_results"

QUERY = """
    SELECT id, plant, unit, sensors, bounds, objective, horizon, max_gap, sink,
           window_size AS "window.size", window_slide AS "window.slide",
           window_idle AS "window.idle"
    FROM soe_tasks
"""

# What all units have in common. A row's columns go before; NULL leaves these as they are.
DEFAULTS = {
    "window": {
        "type": "sliding",
        "size": "60s",
        "slide": "10s",
        "time": "event",
        "max_out_of_orderness": "2s",  # readings may overtake each other by so much
        "idle": "10s",  # a unit that went silent closes its last windows after that
    },
    "inference": {
        "type": "v2",
        "url": os.environ.get("SOE_MODEL_URL", "http://127.0.0.1:8001"),
        "model": "soe",
        "binary": "auto",  # tensors as bytes where the server has them
    },
}


def database_url() -> str:
    """The database; as a reference, since it may hold a password."""
    return "${SOE_DATABASE_URL}" if "SOE_DATABASE_URL" in os.environ else DATABASE_URL


class SinkColumn(ConfigModel):
    """What the column ``sink`` of a row may hold."""

    url: str = ""
    """Another database for the results."""
    table: str = RESULTS_TABLE
    publish: bool = True
    """Whether set-points are published, not only stored."""


class UnitTasks(SqlTaskManager[SoeTask]):
    """Makes a whole task of each row: what a row does not say follows from plant and unit."""

    def task(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        settings = dict(super().task(row))
        unit = f"{settings.get('plant')}.{settings.get('unit')}"
        try:
            sink = SinkColumn.model_validate(settings.pop("sink", {}))
        except ValidationError as error:
            raise explain(error, "sink") from None
        # A task for each unit: one that fails or lags does so alone.
        return {
            "source": {"stream": STREAM, "subject": f"soe.{unit}.*"},
            "sinks": _sinks(unit, sink),
            **settings,
        }


def _sinks(unit: str, sink: SinkColumn) -> list[dict[str, Any]]:
    database = {
        "type": "sql",
        "url": sink.url or database_url(),
        "table": sink.table,
        # Beside the whole result, in columns of their own:
        "columns": {
            "plant": {"field": "plant", "type": "text"},
            "unit": {"field": "unit", "type": "text"},
            "status": {"field": "status", "type": "text"},
            "objective": {"field": "objective", "type": "float"},
            "setpoints": {"field": "setpoints", "type": "json"},
        },
    }
    setpoints = {"type": "soe_setpoints", "subject": f"soe.setpoints.{unit}"}
    return [database, setpoints] if sink.publish else [database]


tasks = UnitTasks(database_url(), QUERY, defaults=DEFAULTS)
