"""What results are called where several products, sinks and beginnings meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sinfer import exit_codes
from sinfer.embedded.services import Service
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope
from tests.e2e.test_operations import LONG
from tests.support.commands import sinfer
from tests.support.deployment import (
    PRODUCT,
    Connections,
    Deployment,
    Task,
    numbers,
    ordered,
    rows,
    wait_for_log,
)
from tests.support.until import until

pytestmark = pytest.mark.e2e

OTHER = "another"


@pytest.fixture(scope="module", autouse=True)
def running(deployment: Deployment) -> Iterator[list[Service]]:
    text = PRODUCT.format(path=str(deployment.directory / "tasks.json"), name=OTHER)
    listed = "return [t for t in json.loads(Path("
    text = text.replace("return json.loads(Path(", listed).replace(
        ".read_text())\n", ".read_text()) if t['id'].startswith('shared')]\n", 1
    )
    (deployment.directory / f"{OTHER}.py").write_text(text)
    deployment.variables["SINFER_PRODUCTS"] = f"{deployment.product},{OTHER}"
    services = [
        deployment.ingest(), deployment.ingest(OTHER), deployment.worker(), deployment.beat(),
    ]  # fmt: skip
    with deployment.running(*services) as running:
        yield running


def redis_stream(deployment: Deployment, task_id: str) -> dict[str, Any]:
    return {"type": "redis_stream", "url": deployment.redis.url, "stream": f"res:{task_id}"}


async def in_redis(connections: Connections, task: Task) -> list[bytes]:
    found: Any = await connections.redis.xrange(f"res:{task.id}")
    return [fields[b"id"] for _, fields in found]


async def is_right(deployment: Deployment, task: Task) -> bool:
    answer = await sinfer(deployment, "audit", "--task", task.id, "--json")
    return answer.code == exit_codes.OK


async def test_products_and_sinks_that_share_stream_and_table_each_have_all(
    deployment: Deployment, connections: Connections
) -> None:
    task = Task(deployment, "shared")
    await connections.jetstream.add_stream(name=task.id, subjects=[task.subject])
    second = f"{task.results}.second"
    out = f"{task.id}-out"
    await connections.jetstream.add_stream(name=out, subjects=[task.results, second])
    sinks = [
        {"type": "jetstream", "subject": task.results},
        {"type": "jetstream", "subject": second},
        task.sql,
        redis_stream(deployment, task.id),
    ]
    deployment.order(task.id, sinks=sinks)
    await connections.process(task, 0, 50)
    theirs = PartitionKeys(Scope(OTHER, task.id, task.subject)).meta

    async def is_done_by_both() -> bool:
        return int(await connections.redis.hget(theirs, "sunk") or 0) == 50

    await until(is_done_by_both, "the other product to be done")
    info = await connections.jetstream.stream_info(out, subjects_filter=">")
    assert info.state.subjects == {task.results: 100, second: 100}
    twice = Counter(dict.fromkeys(range(50), 2))
    assert Counter(row["id"] for row in rows(task)) == twice
    ids = await in_redis(connections, task)
    assert len(ids) == len(set(ids)) == 100
    answer = await sinfer(deployment, "audit", "--task", task.id, "--json")
    assert answer.code == exit_codes.OK
    counts = [(r["results_new"], r["results_known"], r["results_collided"]) for r in answer.json]
    assert counts == [(150, 0, 0)] * 2  # the SQL sink cannot tell


async def test_a_redriven_message_gets_its_result_in_a_redis_stream(
    deployment: Deployment, connections: Connections
) -> None:
    sinks = [redis_stream(deployment, "again"), {"type": "jetstream", "subject": "out.again"}]
    deployment.model.order({"status": 400, "value": 13.0, "count": None})
    task = await ordered(deployment, connections, "again", sinks=sinks)
    await connections.publish(task, numbers(0, 20))
    account = await connections.settled(task, 20)
    assert (account.sunk, account.dead) == (19, 1)
    deployment.model.reset()
    answer = await sinfer(deployment, "dlq", "redrive", "--task", task.id, "--all", "--json")
    assert answer.json["letters"] == 1
    account = await connections.settled(task, 20)
    assert (account.sunk, account.dead) == (20, 0)
    assert len(set(await in_redis(connections, task))) == 20
    assert Counter(r["id"] for r in await connections.results(task)) == Counter(range(20))


@pytest.mark.long
async def test_a_stream_made_again_starts_over_by_the_command_that_is_named(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = await ordered(deployment, connections, "remade")
    await connections.process(task, 0, 20)
    await connections.jetstream.delete_stream(task.id)
    await connections.jetstream.add_stream(name=task.id, subjects=[task.subject])
    await connections.publish(task, numbers(100, 120))
    arguments = [
        "reset", "--product", deployment.product, "--task", task.id, "--partition", task.subject,
    ]  # fmt: skip
    await wait_for_log(running[0], f"sinfer {' '.join(arguments)}")

    asked = await sinfer(deployment, *arguments, "--json")
    assert asked.code == exit_codes.USAGE
    wrong = await sinfer(deployment, *arguments[:-1], "in.other", "--yes")
    assert wrong.code == exit_codes.CONFIGURATION
    assert f"it has: {task.subject}" in wrong.err
    answer = await sinfer(deployment, *arguments, "--yes", "--json")
    assert answer.code == exit_codes.OK, answer.err
    [told] = answer.json
    assert (told["position"], told["closed"], told["waiting"]) == (20, 0, 0)
    await connections.settled(task, 40)
    await connections.assert_one_result_each(task, [*range(20), *range(100, 120)])
    assert await is_right(deployment, task)


async def test_a_result_that_a_stream_takes_for_another_message_is_a_dead_letter(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "collides")
    await connections.process(task, 0, 10)
    # Somebody publishes under the id that the next result will have.
    first = await connections.jetstream.get_msg(f"{task.id}-out", seq=1)
    id = (first.headers or {})["Nats-Msg-Id"]
    head, _, sink = id.rpartition("/1/0@")
    theirs = {"Nats-Msg-Id": f"{head}/11/4@{sink}"}
    await connections.jetstream.publish(task.results, b'{"id": -1}', headers=theirs)
    await connections.publish(task, numbers(10, 20))
    account = await connections.settled(task, 20)
    assert (account.sunk, account.dead) == (19, 1)
    [letter] = await connections.dead_letters(task)
    assert letter.message.data == b'{"id": 14}'
    assert "another one with the same Nats-Msg-Id" in letter.error
    answer = await sinfer(deployment, "audit", "--task", task.id, "--json")
    assert [r["results_collided"] for r in answer.json] == [1]
    told = await sinfer(deployment, "status", "--task", task.id)
    assert "1 results were dropped by a stream as copies of other messages" in told.out + told.err


@pytest.mark.long
@pytest.mark.parametrize("ack", ["stored", "done"])
async def test_a_task_starts_over_while_it_is_read(
    deployment: Deployment, connections: Connections, ack: str
) -> None:
    """Open windows come to their end under the old names, and everything is read once more."""
    task = Task(deployment, f"over-{ack}")
    source = {"stream": task.id, "subject": task.subject, "batch": 100, "ack": ack}
    await ordered(deployment, connections, task.id, window=LONG, source=source)
    await connections.publish(task, numbers(0, 25))
    await connections.settled_at_least(task, 20)
    answer = await sinfer(
        deployment, "reset", "--product", deployment.product, "--task", task.id, "--yes", "--json"
    )
    [told] = answer.json
    assert (told["position"], told["closed"], told["start"]) == (25, 1, 1)
    assert bool(told["consumer"]) == (ack == "done")
    await connections.settled_at_least(task, 45)
    await connections.publish(task, numbers(25, 30))
    await connections.settled(task, 55)
    expected = Counter([*range(25), *range(30)])
    assert Counter(result["id"] for result in await connections.results(task)) == expected
    assert Counter(row["id"] for row in rows(task)) == expected
    assert await is_right(deployment, task)


@pytest.mark.long
async def test_a_task_that_comes_back_with_another_window_overwrites_nothing(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "back")
    await connections.process(task, 0, 20)
    deployment.withdraw(task)

    async def is_forgotten() -> bool:
        return not await connections.redis.exists(PartitionKeys(task.scope).meta)

    await until(is_forgotten, "the task to be forgotten")
    deployment.order(task.id, window={"type": "count", "count": 7, "max_wait": "1s"})
    await connections.settled(task, 20)
    assert Counter(row["id"] for row in rows(task)) == Counter([*range(20)] * 2)
    found = Counter(result["id"] for result in await connections.results(task))
    assert found == Counter([*range(20)] * 2)
