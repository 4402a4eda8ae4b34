"""Ingest, worker, beat and Flower side by side: what each kind of message and task comes to."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import Service
from tests.support.deployment import (
    Connections,
    Deployment,
    Task,
    numbers,
    ordered,
    rows,
    wait_for_log,
)
from tests.support.hostile_messages import harmless, refused, unreadable, wrong_hints
from tests.support.until import until

pytestmark = pytest.mark.e2e


class Running:
    """The processes that the tests of this module share."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.flower_port = free_port()
        self.ingest = deployment.ingest()
        self.worker = deployment.worker()
        self.beat = deployment.beat()
        self.flower = deployment.flower(self.flower_port)
        self.services = (self.ingest, self.worker, self.beat, self.flower)

    def flower_api(self, path: str) -> Any:
        url = f"http://127.0.0.1:{self.flower_port}/api/{path}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)


@pytest.fixture(scope="module", autouse=True)
def running(deployment: Deployment) -> Iterator[Running]:
    deployment.variables["FLOWER_UNAUTHENTICATED_API"] = "true"
    running = Running(deployment)
    deployment.start(*running.services)
    yield running
    for service in running.services:
        service.check()  # nothing that a test did ended a process


@pytest.fixture(autouse=True)
def healthy_model(deployment: Deployment) -> Iterator[None]:
    yield
    deployment.model.reset()


async def test_each_message_has_one_result_in_each_sink(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "plain")
    await connections.publish(task, numbers(0, 57))
    account = await connections.settled(task, 57)
    assert account.sunk == 57
    await connections.assert_one_result_each(task, range(57))
    reasons = Counter(row["reason"] for row in rows(task))
    assert reasons == {"count": 50, "time": 7}  # beat closed the last one after max_wait


async def test_bad_messages_are_kept_with_their_reason_and_the_others_go_on(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "bad", limits={"lease": "2s", "max_message_bytes": 1000}
    )
    deployment.model.order({"status": 400, "value": 13.0, "count": None})
    bad = {
        b"\xff\xfe no json": "JSONDecodeError",
        b'{"no": "id"}': "KeyError: 'id'",
        b'{"id": "7"}': "TypeError",
        b'{"id": 1, "key": 5}': "key() returned int, not str",
        b'{"id": 1, "key": "\\ud800"}': "holds half of a surrogate pair",
        b'{"id": 1, "key": "' + b"k" * 300 + b'"}': "limits.max_key_length (256)",
        b'{"id": 1, "pad": "' + b"x" * 1000 + b'"}': "limits.max_message_bytes (1000)",
    }
    messages: list[Any] = [*numbers(0, 13), *bad, *numbers(-4, 0), {"id": 13}, *numbers(14, 30)]
    await connections.publish(task, messages)
    account = await connections.settled(task, len(messages))
    assert account.dead == len(bad) + 1
    assert account.filtered == 4
    assert account.sunk == 29
    await connections.assert_one_result_each(task, [n for n in range(30) if n != 13])

    letters = {letter.message.data: letter for letter in await connections.dead_letters(task)}
    assert len(letters) == len(bad) + 1
    for data, reason in bad.items():
        assert reason in letters[data].error
        assert letters[data].stage == "preprocess"
        assert letters[data].message.subject == task.subject
        assert letters[data].message.stream_seq == messages.index(data) + 1
    refused = letters[b'{"id": 13}']
    assert refused.stage == "inference"
    assert "400" in refused.error
    assert refused.window.startswith(f"{task.id}/")
    assert refused.attempts == 1


async def test_windows_by_the_clock_are_closed_by_beat_for_each_key(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "clock", window={"type": "tumbling", "size": "500ms"}
    )
    for first in range(0, 30, 10):
        await connections.publish(task, numbers(first, first + 5, key="a/{1}"))
        await connections.publish(task, numbers(first + 5, first + 10, key=""))
        await connections.settled(task, first + 10)
    await connections.assert_one_result_each(task, range(30))
    found = rows(task)
    assert {row["reason"] for row in found} == {"time"}
    windows: dict[tuple[str, float], int] = defaultdict(int)
    for row in found:
        windows[row["key"], row["start"]] += 1
        assert row["key"] == ("a/{1}" if row["id"] % 10 < 5 else "")
        assert round(row["start"] * 1000) % 500 == 0
    assert len(windows) >= 6  # three rounds of two keys, each round after the one before was done


async def test_windows_by_event_time_close_behind_the_watermark(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "events",
        window={
            "type": "tumbling", "size": "10s", "time": "event", "max_out_of_orderness": "2s",
            "late": "dead_letter",
        },
    )  # fmt: skip
    base = time.time() // 10 * 10 - 1000

    def at(id: int, offset: float, key: str = "all") -> dict[str, Any]:
        return {"id": id, "time": base + offset, "key": key}

    # window      [0, 10)                    [10, 20)
    # watermark   -2 ... 9.9 (still open) -> 10.5 closes the first for both keys
    await connections.publish(
        task, [at(1, 0), at(2, 9.9, "b"), at(3, 11.9), at(4, 5), at(5, 12.5), at(6, 9.5)]
    )

    async def all_read() -> bool:
        account = await connections.account(task)
        assert account.balances
        return account.fetched == 6 and account.sunk == 3

    await until(all_read, "the first windows to close")
    account = await connections.account(task)
    assert (account.dead, account.held) == (1, 2)  # 6 came too late; 3 and 5 wait for the watermark
    found = {row["id"]: row for row in await connections.results(task)}
    assert found.keys() == {1, 2, 4}
    assert {row["start"] for row in found.values()} == {base}
    assert {id: row["key"] for id, row in found.items()} == {1: "all", 2: "b", 4: "all"}
    [late] = await connections.dead_letters(task)
    assert late.stage == "window"
    assert json.loads(late.message.data)["id"] == 6

    await connections.publish(task, [at(7, 22)])
    await wait_for_sunk(connections, task, 5)
    assert {row["id"]: row["start"] for row in rows(task)} == {
        1: base, 2: base, 4: base, 3: base + 10, 5: base + 10,
    }  # fmt: skip


async def wait_for_sunk(connections: Connections, task: Task, messages: int) -> None:
    async def are_sunk() -> bool:
        account = await connections.account(task)
        assert account.balances
        return account.sunk == messages

    await until(are_sunk, f"{messages} messages to be sunk")


async def test_an_idle_source_closes_its_windows_by_event_time(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "idle",
        window={"type": "tumbling", "size": "1h", "time": "event", "idle": "300ms"},
    )  # fmt: skip
    await connections.process(task, 0, 5)
    assert {row["reason"] for row in rows(task)} == {"idle"}


async def test_bytes_close_a_window_in_the_commit(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "bytes",
        window={"type": "tumbling", "size": "1h", "max_bytes": 1000, "max_wait": "1s"},
    )  # fmt: skip
    await connections.publish(task, numbers(100, 115, pad="x" * 200))
    await connections.settled(task, 15)
    assert Counter((row["reason"], row["size"]) for row in rows(task)) == {("bytes", 5): 15}


async def test_rest_and_python_models_and_file_sinks_work(
    deployment: Deployment, connections: Connections
) -> None:
    lines = deployment.directory / "results.jsonl"
    (deployment.directory / "own_model.py").write_text(
        "from types import SimpleNamespace\n"
        "def answer(request):\n"
        "    data = request['inputs'][0]['data']\n"
        "    return SimpleNamespace(outputs={'y': data[::16]})\n"
    )
    task = await ordered(
        deployment, connections, "python",
        inference={"type": "python", "call": "own_model:answer"},
        sinks=[{"type": "jsonl", "path": str(lines)}, {"type": "log"}],
    )  # fmt: skip
    await connections.process(task, 0, 20)
    written = [json.loads(line)["result"] for line in lines.read_text().splitlines()]
    assert sorted(result["id"] for result in written) == list(range(20))


async def test_a_task_that_crashes_disturbs_no_other_and_comes_back(
    deployment: Deployment, connections: Connections, running: Running
) -> None:
    broken = deployment.order("broken")  # its pipeline raises when it is made
    lost = deployment.order("lost")  # its stream is not there
    away = deployment.order(
        "away", source={"servers": [f"nats://127.0.0.1:{free_port()}"], "stream": "away"}
    )
    invalid = deployment.order("invalid", window={"type": "count"})
    await connections.make_streams(broken)

    def log() -> str:
        return running.ingest.process.log.read_text()

    def all_told() -> bool:
        return (
            "its pipeline cannot be made: RuntimeError: this pipeline cannot be made" in log()
            and f"{lost.scope}: " in log()
            and "NATS cannot be reached" in log()
            and "task 'invalid': window.count: is required" in log()
        )

    await until(all_told, "each problem to be told")
    good = await ordered(deployment, connections, "good")
    await connections.process(good, 0, 10)

    await connections.make_streams(lost)
    await connections.process(lost, 0, 10)
    assert (await connections.account(broken)).fetched == 0
    for task in (broken, away, invalid):
        deployment.withdraw(task)


async def test_a_changed_task_starts_again_and_a_withdrawn_one_stops(
    deployment: Deployment, connections: Connections, running: Running
) -> None:
    task = await ordered(deployment, connections, "changing")
    await connections.process(task, 0, 10)
    # The change comes in the midst of the messages: windows of both kinds may hold some of them.
    task = deployment.order("changing", window={"type": "count", "count": 5, "max_wait": "1s"})
    await connections.process(task, 10, 20)
    await wait_for_log(running.ingest, f"{task.scope}: ingesting", times=2)
    await connections.process(task, 20, 25)
    assert Counter(row["size"] for row in rows(task))[5] >= 5

    deployment.withdraw(task)

    async def is_given_back() -> bool:
        return await connections.owner(task) is None

    await until(is_given_back, "the lease to be given back")
    await connections.assert_one_result_each(task, range(25))


async def test_a_model_that_never_answers_holds_up_neither_other_tasks_nor_ticks(
    deployment: Deployment, connections: Connections
) -> None:
    hanging = await ordered(
        deployment, connections, "hanging",
        inference={
            "type": "v2", "url": deployment.model.url, "model": "example", "timeout": "10m",
            "max_concurrency": 4,
        },
        window={"type": "count", "count": 1},
    )  # fmt: skip
    other = await ordered(deployment, connections, "patient")
    deployment.model.order({"mode": "hang", "value": 666.0, "count": None})
    await connections.publish(hanging, [{"id": 666} for _ in range(30)])
    # Both worker processes have their hands full with windows that will take ten minutes.
    await until(lambda: deployment.model.stats()["concurrent"] == 8, "all places to be taken", 15)
    await connections.process(other, 0, 25)
    assert deployment.model.stats()["concurrent"] == 8
    assert Counter(row["reason"] for row in rows(other)) == {"count": 20, "time": 5}

    deployment.withdraw(hanging)
    account = await connections.account(hanging)
    assert (account.fetched, account.held) == (30, 30)
    assert account.balances


async def test_a_worker_starts_without_asking_others(running: Running) -> None:
    log = running.worker.process.log.read_text()
    assert "ready" in log
    assert "mingle" not in log


async def test_flower_shows_workers_and_queues_by_readable_names(
    deployment: Deployment, running: Running
) -> None:
    running.flower.wait_until_ready()
    workers: dict[str, Any] = {}

    def shown_workers() -> bool:
        workers.update(running.flower_api("workers?refresh=1"))
        return bool(workers)

    await until(shown_workers, "the worker in Flower")
    [(name, worker)] = workers.items()
    assert name.startswith(f"{running.worker.name}@")
    assert sorted(worker["registered"]) == ["sinfer.process", "sinfer.tick"]
    queues = {queue["name"] for queue in worker["active_queues"]}
    assert queues == {"sinfer.tick", f"sinfer.{deployment.product}"}


async def test_messages_of_strangers_in_the_broker_harm_nobody(
    deployment: Deployment, connections: Connections, running: Running, tmp_path: Path
) -> None:
    task = await ordered(deployment, connections, "strangers")
    queue, canary = f"sinfer.{deployment.product}", tmp_path / "canary"
    hint = {**task.scope._asdict(), "windows": 1}
    hostile = [*refused(canary), *wrong_hints(hint), *harmless(hint)]
    await connections.broker.lpush(queue, *unreadable(), *map(json.dumps, hostile))
    await connections.process(task, 0, 20)
    await connections.assert_one_result_each(task, range(20))

    async def is_empty() -> bool:
        left = await connections.broker.llen(queue) + await connections.broker.hlen("unacked")
        return bool(left == 0)

    await until(is_empty, "all messages to be gone")
    assert not canary.exists()
    running.worker.check()


def test_flower_is_not_open_to_the_world_by_default(deployment: Deployment) -> None:
    port = free_port()
    command = ["celery", "-A", "sinfer.tasks", "flower", f"--port={port}"]
    service = Service("flower-bare", command, lambda _: bool(listeners(port)), deployment.place)
    deployment.start(service)
    try:
        service.wait_until_ready()
        assert listeners(port) == {"127.0.0.1"}
    finally:
        service.process.kill()


def listeners(port: int) -> set[str]:
    """The addresses on which somebody listens at a port."""
    return {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == port
    }


def test_no_process_wrote_a_traceback(running: Running) -> None:
    for service in running.services:
        log = service.process.log.read_text()
        assert "Traceback" not in log or service is running.ingest, log
