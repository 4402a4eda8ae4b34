"""Tasks in a database: by columns and by JSON, broken rows, outages, passwords."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sinfer import ConfigError, SqlTaskManager, UnavailableError
from sinfer.products.product import TaskList
from tests.support.task_settings import Threshold, product_of, settings_of

DEFAULTS = {name: value for name, value in settings_of("-").items() if name != "id"}


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def listed(manager: SqlTaskManager[Any]) -> TaskList:
    return await product_of(manager).list_tasks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


async def test_columns_are_settings_and_defaults_fill_in(path: Path) -> None:
    execute(
        path,
        'CREATE TABLE tasks (id TEXT, subject TEXT, threshold REAL, "window" TEXT, active INT)',
        "INSERT INTO tasks VALUES ('a', 's.a', 0.75, NULL, 1)",
        "INSERT INTO tasks VALUES ('b', 's.b', NULL, '{\"type\": \"count\", \"count\": 3}', 1)",
        "INSERT INTO tasks VALUES ('c', 's.c', NULL, NULL, 0)",
    )
    manager = SqlTaskManager[Threshold](
        f"sqlite:///{path}",
        'SELECT id, subject AS "source.subject", threshold, "window" FROM tasks WHERE active = :on',
        defaults=DEFAULTS,
        parameters={"on": 1},
    )
    found = await listed(manager)
    assert not found.problems
    assert found.tasks.keys() == {"a", "b"}
    a, b = found.tasks["a"], found.tasks["b"]
    assert (a.source.stream, a.source.subject) == ("S", "s.a")
    assert a.threshold == 0.75  # type: ignore[attr-defined]
    assert b.threshold == 0.5  # type: ignore[attr-defined]
    assert b.window.count == 3  # type: ignore[union-attr]


async def test_another_type_takes_nothing_from_the_defaults(path: Path) -> None:
    execute(
        path,
        "CREATE TABLE tasks (id TEXT, w TEXT)",
        """INSERT INTO tasks VALUES ('a', '{"type": "tumbling", "size": "5s"}')""",
    )
    manager = SqlTaskManager[Threshold](
        f"sqlite:///{path}", 'SELECT id, w AS "window" FROM tasks', defaults=DEFAULTS
    )
    assert (await listed(manager)).tasks["a"].window.type == "tumbling"


async def test_a_json_column_holds_whole_tasks_and_a_broken_row_disturbs_nobody(
    path: Path,
) -> None:
    execute(path, "CREATE TABLE tasks (id TEXT, config TEXT)")
    rows = [
        ("a", json.dumps(settings_of("a"))),
        ("b", "{not json"),
        ("c", json.dumps({k: v for k, v in settings_of("c").items() if k != "id"})),
        ("d", json.dumps(settings_of("d", window={"type": "count", "count": 0}))),
        ("e", "[1]"),
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO tasks VALUES (?, ?)", rows)
    found = await listed(
        SqlTaskManager(f"sqlite:///{path}", "SELECT * FROM tasks", json_column="config")
    )
    assert found.tasks.keys() == {"a", "c"}
    assert found.problems.keys() == {"b", "d", "e"}
    assert "task 'b': column 'config' is no JSON" in found.problems["b"]
    assert "task 'd': window.count: " in found.problems["d"]
    assert found.complete


async def test_a_subclass_maps_rows_as_it_likes(path: Path) -> None:
    execute(path, "CREATE TABLE t (id TEXT, n INT)", "INSERT INTO t VALUES ('a', 2), ('b', 0)")

    class Mine(SqlTaskManager[Threshold]):
        def task(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
            return settings_of(row["id"], threshold=1 / row["n"])

    found = await listed(Mine(f"sqlite:///{path}", "SELECT * FROM t"))
    assert found.tasks["a"].threshold == 0.5  # type: ignore[attr-defined]
    assert "ZeroDivisionError" in found.problems["b"]


async def test_a_table_that_is_missing_is_an_outage_until_it_is_there(path: Path) -> None:
    manager = SqlTaskManager[Threshold](f"sqlite:///{path}", "SELECT id FROM t", defaults=DEFAULTS)
    execute(path, "CREATE TABLE another (id TEXT)")
    with pytest.raises(UnavailableError, match="no such table"):
        await listed(manager)
    execute(path, "CREATE TABLE t (id TEXT)", "INSERT INTO t VALUES ('a')")
    assert (await listed(manager)).tasks.keys() == {"a"}


async def test_a_file_that_is_missing_is_an_outage_and_is_not_made(path: Path) -> None:
    nowhere = path.with_name("nowhere.sqlite")
    manager = SqlTaskManager[Threshold](f"sqlite:///{nowhere}", "SELECT id FROM t")
    with pytest.raises(UnavailableError, match=f"there is no file {nowhere}"):
        await listed(manager)
    assert not nowhere.exists()


async def test_a_server_that_is_away_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKS_PASSWORD", "hush-hush")
    url = "postgresql+psycopg://me:${TASKS_PASSWORD}@127.0.0.1:1/tasks"
    manager = SqlTaskManager[Threshold](url, "SELECT 1")
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1") as error:
        await listed(manager)
    assert "hush-hush" not in f"{error.value!r} {manager!r} {vars(manager)!r}"


async def test_a_variable_that_is_not_set_is_named() -> None:
    manager = SqlTaskManager[Threshold]("sqlite:///${NO_SUCH_VARIABLE}", "SELECT 1")
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        await listed(manager)


async def test_tasks_come_from_a_server_too(postgresql_url: str) -> None:
    manager = SqlTaskManager[Threshold](
        postgresql_url,
        """SELECT 'a' AS id, '{"type": "count", "count": 4}'::jsonb AS "window" """,
        defaults=DEFAULTS,
    )
    assert (await listed(manager)).tasks["a"].window.count == 4  # type: ignore[union-attr]
