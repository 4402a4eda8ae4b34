"""Tasks in YAML files: a broken file keeps what it had and disturbs no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from sinfer import UnavailableError, YamlTaskManager
from sinfer.products.product import TaskList
from tests.support.task_settings import Threshold, product_of, settings_of


def write(path: Path, *tasks: object) -> None:
    path.write_text(yaml.safe_dump(list(tasks)))


async def listed(path: Path, manager: YamlTaskManager[Threshold] | None = None) -> TaskList:
    return await product_of(manager or YamlTaskManager(path)).list_tasks()


@pytest.mark.parametrize("form", ["one", "list", "under tasks"])
async def test_a_file_holds_a_task_or_a_list(tmp_path: Path, form: str) -> None:
    task = settings_of("a")
    document = {"one": task, "list": [task], "under tasks": {"tasks": [task]}}[form]
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump(document))
    assert (await listed(file)).tasks.keys() == {"a"}


async def test_a_folder_holds_the_tasks_of_all_its_files(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", settings_of("a"), settings_of("b"))
    write(tmp_path / "c.yml", settings_of("c"))
    write(tmp_path / "notes.txt", settings_of("d"))
    found = await listed(tmp_path)
    assert found.tasks.keys() == {"a", "b", "c"}
    assert found.complete


async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    manager = YamlTaskManager[Threshold](tmp_path)
    write(tmp_path / "a.yaml", settings_of("a"))
    assert (await listed(tmp_path, manager)).tasks["a"].threshold == 0.5  # type: ignore[attr-defined]
    write(tmp_path / "a.yaml", settings_of("a", threshold=0.25))
    os.utime(tmp_path / "a.yaml", ns=(1, 1))  # as by a tool that keeps times
    assert (await listed(tmp_path, manager)).tasks["a"].threshold == 0.25  # type: ignore[attr-defined]


async def test_a_file_that_is_broken_keeps_its_tasks_and_is_named(tmp_path: Path) -> None:
    manager = YamlTaskManager[Threshold](tmp_path)
    write(tmp_path / "a.yaml", settings_of("a"))
    write(tmp_path / "b.yaml", settings_of("b"))
    await listed(tmp_path, manager)
    (tmp_path / "b.yaml").write_text("- id: [")
    found = await listed(tmp_path, manager)
    assert found.tasks.keys() == {"a", "b"}
    [problem] = found.problems.values()
    assert "b.yaml" in problem
    assert not found.complete  # it may hold a task that would be missed


async def test_a_broken_task_is_reported_by_id_and_field(tmp_path: Path) -> None:
    file = tmp_path / "tasks.yaml"
    write(file, settings_of("good"), settings_of("bad", threshold="high"), "nonsense")
    found = await listed(file)
    assert found.tasks.keys() == {"good"}
    assert "task 'bad': threshold: " in found.problems["bad"]
    assert "'high'" in found.problems["bad"]
    assert found.problems.keys() == {"bad", "task 3"}


async def test_a_folder_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="nowhere"):
        await listed(tmp_path / "nowhere")
