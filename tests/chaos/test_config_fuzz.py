"""Hostile files, rows and keys: what is no task is refused with its reason, the others stay."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from sinfer import NatsKvTaskManager, Product, SqlTaskManager, TaskManager, YamlTaskManager
from sinfer.embedded.servers import NatsServer
from sinfer.products.product import TaskList
from tests.chaos.fuzz import GOOD_TASK, fuzzed_documents, hostile_documents
from tests.chaos.product import ChaosPipeline, ChaosTask
from tests.support.until import until

SEED = 10
COUNT = 2_500

NEIGHBOUR = GOOD_TASK | {"id": "neighbour"}
DOCUMENTS = [*hostile_documents(), *fuzzed_documents(SEED, COUNT)]


def product_of(manager: TaskManager[ChaosTask]) -> Product:
    return Product("fuzzed", tasks=manager, pipeline=ChaosPipeline)


def assert_refused(listed: TaskList, documents: int) -> None:
    """The neighbour is there, and whatever is not a task has its reason."""
    assert "neighbour" in listed.tasks
    for where, problem in listed.problems.items():
        assert problem.startswith("product 'fuzzed', "), where
        assert problem.partition(": ")[2]
        assert "Traceback" not in problem
        assert len(where) + len(problem) < 3_000
    assert len(listed.problems) > documents / 2


async def twice(product: Product) -> TaskList:
    """What does not change is compared with what was there before, which may be hostile too."""
    first = await product.list_tasks()
    again = await product.list_tasks()
    assert (again.tasks, again.problems) == (first.tasks, first.problems)
    return first


async def test_hostile_files(tmp_path: Path) -> None:
    for place, data in enumerate(DOCUMENTS):
        (tmp_path / f"{place:06}.yaml").write_bytes(data)
    (tmp_path / "neighbour.yaml").write_text(yaml.safe_dump(NEIGHBOUR))
    assert_refused(await twice(product_of(YamlTaskManager(tmp_path))), len(DOCUMENTS))


def _with_rows(path: Path, rows: list[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE tasks (id, config, sinks, pending)")
        connection.executemany("INSERT INTO tasks VALUES (?, ?, ?, ?)", rows)


@pytest.mark.parametrize("by_column", [False, True])
async def test_hostile_rows(tmp_path: Path, by_column: bool) -> None:
    path = tmp_path / "tasks.sqlite"
    rows: list[tuple[Any, ...]] = [("neighbour", json.dumps(NEIGHBOUR), None, None)]
    for place, data in enumerate(DOCUMENTS):
        text = data if place % 2 else data.decode("latin-1")
        rows.append((f"t{place}", text, text, place - 500))
    _with_rows(path, rows)
    if by_column:
        manager = SqlTaskManager[ChaosTask](
            f"sqlite:///{path}",
            'SELECT id, sinks, pending AS "limits.max_pending_windows" FROM tasks',
            defaults={name: part for name, part in GOOD_TASK.items() if name != "id"},
        )
    else:
        manager = SqlTaskManager[ChaosTask](
            f"sqlite:///{path}", "SELECT id, config FROM tasks", json_column="config"
        )
    assert_refused(await twice(product_of(manager)), len(DOCUMENTS))


@pytest.fixture
async def kv_product(nats_server: NatsServer, unique: str) -> AsyncIterator[Product]:
    manager = NatsKvTaskManager[ChaosTask](unique, servers=[nats_server.url])
    yield product_of(manager)
    await manager.aclose()


async def test_hostile_keys_of_a_bucket(
    nats_client: Client, unique: str, kv_product: Product
) -> None:
    bucket = await nats_client.jetstream().create_key_value(bucket=unique)
    await bucket.put("neighbour", json.dumps(NEIGHBOUR).encode())
    for place, data in enumerate(DOCUMENTS):
        await nats_client.publish(f"$KV.{unique}.k{place}", data)

    async def are_stored() -> bool:
        status = await bucket.status()
        return status.values == len(DOCUMENTS) + 1

    await until(are_stored, "all keys to be in the bucket")
    assert_refused(await twice(kv_product), len(DOCUMENTS))
