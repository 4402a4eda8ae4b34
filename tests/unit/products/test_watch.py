"""What stays in force while tasks are broken or their manager is gone, and what is logged."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sinfer import BrokenTask, TaskManager, UnavailableError
from sinfer.products.watch import TaskFollower
from tests.support.task_settings import product_of, settings_of


class Source(TaskManager[Any]):
    """Lists what it is told to, or fails."""

    refresh = 0

    def __init__(self, *tasks: Any) -> None:
        self.tasks = list(tasks)
        self.problem: Exception | None = None

    def list_tasks(self) -> list[Any]:
        if self.problem is not None:
            raise self.problem
        return self.tasks


def follow(*tasks: Any) -> tuple[Source, TaskFollower]:
    source = Source(*tasks)
    return source, TaskFollower(product_of(source))


async def test_only_changes_count_as_changes() -> None:
    source, follower = follow(settings_of("a"))
    assert await follower.refresh()
    assert not await follower.refresh()
    before = follower.tasks["a"]
    source.tasks = [settings_of("a")]  # another object that says the same
    assert not await follower.refresh()
    assert follower.tasks["a"] is before
    source.tasks[0]["threshold"] = 0.1  # changed in place
    assert await follower.refresh()
    assert follower.tasks["a"].threshold == 0.1  # type: ignore[attr-defined]


async def test_a_task_that_breaks_stays_as_it_was() -> None:
    source, follower = follow(settings_of("a", threshold=0.25), settings_of("b"))
    await follower.refresh()
    source.tasks = [settings_of("a", threshold="no"), settings_of("b"), settings_of("c", sinks=[])]
    await follower.refresh()
    assert follower.tasks.keys() == {"a", "b"}
    assert follower.tasks["a"].threshold == 0.25  # type: ignore[attr-defined]
    assert follower.problems.keys() == {"a", "c"}
    assert follower.is_complete
    source.tasks = [settings_of("b")]
    await follower.refresh()
    assert follower.tasks.keys() == {"b"}


async def test_a_broken_place_without_an_id_leaves_the_list_incomplete() -> None:
    source, follower = follow(settings_of("a"), BrokenTask("row 2", "unreadable"))
    await follower.refresh()
    assert not follower.is_complete
    source.tasks = [settings_of("a"), BrokenTask("row 2", "unreadable", id="b")]
    assert await follower.refresh()
    assert follower.is_complete


async def test_an_outage_is_logged_once_and_the_last_tasks_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    source, follower = follow(settings_of("a"))
    await follower.refresh()
    source.problem = UnavailableError("the database is away")
    for _ in range(3):
        assert not await follower.refresh()
    source.problem = None
    await follower.refresh()
    assert follower.tasks.keys() == {"a"}
    outage, recovery = (record.getMessage() for record in caplog.records)
    assert "the database is away" in outage
    assert "the last known stay in force" in outage
    assert "again" in recovery


async def test_a_problem_is_logged_when_it_appears_and_when_it_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, follower = follow(settings_of("a", threshold="no"))
    for value in ("no", "no", "never", "never"):
        source.tasks = [settings_of("a", threshold=value)]
        await follower.refresh()
    assert len(caplog.records) == 2
