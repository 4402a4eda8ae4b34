"""A row of the task table makes a whole task; what makes no sense is told by its field."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from sinfer.products.soe.units import UNITS
from tests.support.soe_task import soe_task


def test_a_row_makes_a_whole_task() -> None:
    task = soe_task()
    assert task.id == "north.r1"
    assert task.source.subject == "soe.north.r1.*"
    window = task.window
    assert window.type == "sliding"
    assert (window.size, window.slide) == (timedelta(seconds=60), timedelta(seconds=10))
    assert window.time == "event"
    assert [sink.type for sink in task.sinks] == ["sql", "soe_setpoints"]
    assert task.horizon == timedelta(seconds=30)


def test_a_unit_that_is_not_to_be_published_has_no_such_sink() -> None:
    assert [sink.type for sink in soe_task(sink={"publish": False}).sinks] == ["sql"]


def test_results_go_to_the_table_that_the_row_names() -> None:
    (sql, _) = soe_task(sink={"table": "north_results"}).sinks
    assert sql.model_dump()["table"] == "north_results"


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"sensors": ["flow", "flow"]}, "sensors: a name comes twice"),
        ({"sensors": ["temperature", "flow", "activity", "impurity"]}, "'profit' is not among"),
        ({"bounds": {"flow": [2, 1]}}, "bounds.flow: low must be below high"),
        ({"bounds": {"pressure": [1, 2]}}, "'pressure' is not among the sensors"),
        ({"objective": {"sensor": "profit", "sense": "up"}}, "objective"),
        ({"plant": "setpoints"}, "'setpoints' is taken"),
        ({"plant": "a.b"}, "plant"),
        ({"colour": "red"}, "colour"),
        ({"window": {"type": "count", "count": 3}}, "event time"),
        (
            {"window": {"type": "sliding", "size": "60s", "slide": "10s"}},
            "event time",
        ),
        (
            {"window": {"type": "tumbling", "size": "500ms", "time": "event"}},
            "whole seconds",
        ),
    ],
)
def test_what_makes_no_sense_is_told(columns: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        soe_task(**columns)
    assert text in str(caught.value)


def test_every_sample_unit_is_valid() -> None:
    assert [soe_task(**{"sink": None, **unit}).id for unit in UNITS] == [u["id"] for u in UNITS]


def test_the_product_needs_neither_numpy_nor_a_database_to_be_found() -> None:
    code = (
        "import sys; from sinfer.products.soe import product; import sinfer.products.soe.simulator;"
        "print([m for m in ('numpy', 'scipy', 'sqlalchemy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
