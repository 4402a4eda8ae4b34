"""Units come from a database table: rows that make sense become tasks, others are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from sinfer import Product
from sinfer.products.soe.pipeline import SoePipeline
from sinfer.products.soe.task import SoeTask
from sinfer.products.soe.tasks import DEFAULTS, QUERY, UnitTasks
from sinfer.products.soe.units import UNITS, add_units
from sinfer.windows.specs import SlidingWindow


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database, and the environment that names it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'soe.sqlite'}"
    else:
        url = request.getfixturevalue("postgresql_url")
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS soe_tasks"))
        engine.dispose()
    monkeypatch.setenv("SOE_DATABASE_URL", url)
    return url


def unit(name: str, **columns: Any) -> dict[str, Any]:
    return {**UNITS[0], "id": f"north.{name}", "unit": name, **columns}


async def listed(url: str) -> tuple[dict[str, SoeTask], dict[str, str]]:
    product = Product("soe", tasks=UnitTasks(url, QUERY, defaults=DEFAULTS), pipeline=SoePipeline)
    found = await product.list_tasks()
    tasks = {id: task for id, task in found.tasks.items() if isinstance(task, SoeTask)}
    assert len(tasks) == len(found.tasks)
    return tasks, found.problems


async def test_each_row_is_a_task(url: str) -> None:
    add_units(url, UNITS)
    tasks, problems = await listed(url)
    assert problems == {}
    assert {id: len(task.sinks) for id, task in tasks.items()} == {
        "north.r1": 2,
        "north.r2": 1,
        "south.r1": 2,
    }
    assert tasks["south.r1"].bounds["impurity"] == (0.0, 0.004)


async def test_columns_that_are_null_leave_the_defaults_and_others_go_before(url: str) -> None:
    add_units(url, [unit("a", window_size="30s", max_gap="3s"), unit("b", horizon=None)])
    tasks, _ = await listed(url)
    window = tasks["north.a"].window
    assert isinstance(window, SlidingWindow)
    assert (window.size.total_seconds(), window.slide.total_seconds()) == (30, 10)
    assert tasks["north.a"].max_gap.total_seconds() == 3
    assert tasks["north.b"].horizon.total_seconds() == 60


async def test_a_broken_row_is_told_by_its_id_and_disturbs_nobody(url: str) -> None:
    bad = {"temperature": [385.0, 345.0], "flow": [0.5, 2.2]}
    add_units(url, [unit("good"), unit("bad", bounds=bad), unit("odd", sink={"colour": "red"})])
    tasks, problems = await listed(url)
    assert set(tasks) == {"north.good"}
    assert set(problems) == {"north.bad", "north.odd"}
    assert "bounds.temperature: low must be below high" in problems["north.bad"]
    assert "sink: colour: unknown key" in problems["north.odd"]


async def test_adding_a_unit_again_replaces_it(url: str) -> None:
    add_units(url, [unit("a")])
    add_units(url, [unit("a", horizon="90s")])
    tasks, _ = await listed(url)
    assert tasks["north.a"].horizon.total_seconds() == 90
