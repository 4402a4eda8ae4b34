"""What people do to running tasks: each command against running processes, with its exit code."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from nats.js.api import ConsumerConfig

from sinfer import exit_codes
from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import Service, answers
from sinfer.store import keys
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope
from tests.support.commands import sinfer
from tests.support.deployment import (
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

LONG = {"type": "count", "count": 10, "max_wait": "1h"}


@pytest.fixture(scope="module", autouse=True)
def running(deployment: Deployment) -> Iterator[list[Service]]:
    services = deployment.ingest(), deployment.worker(), deployment.beat()
    with deployment.running(*services) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy_model(deployment: Deployment) -> Iterator[None]:
    yield
    deployment.model.reset()


async def test_a_redriven_message_gets_the_result_it_should_have_had(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "redrive")
    deployment.model.order({"status": 400, "value": 13.0, "count": None})
    await connections.publish(task, numbers(0, 20))
    account = await connections.settled(task, 20)
    assert (account.sunk, account.dead) == (19, 1)

    listed = (await sinfer(deployment, "dlq", "list", "--task", task.id, "--json")).json
    [letter] = listed
    assert letter["seq"] == 14
    assert letter["stage"] == "inference"
    assert "400" in letter["error"]
    shown = (await sinfer(deployment, "dlq", "show", letter["id"], "--json")).json
    assert shown["text"] == '{"id": 13}'

    # It fails again, and comes back with its history.
    assert (await sinfer(deployment, "dlq", "redrive", letter["id"])).code == exit_codes.OK
    await until(lambda: dead_letters(connections, task, history=1), "the letter to come back")
    [again] = await connections.dead_letters(task)
    assert [failed.attempts for failed in again.history] == [1]
    assert again.window == letter["window"]

    deployment.model.reset()
    answer = await sinfer(deployment, "dlq", "redrive", "--task", task.id, "--all", "--json")
    assert answer.json["letters"] == 1
    account = await connections.settled(task, 20)
    assert (account.sunk, account.dead) == (20, 0)
    await connections.assert_one_result_each(task, range(20))
    with closing_rows(task) as found:
        assert (found[13]["window_id"], found[13]["ordinal"]) == (letter["window"], 3)
    assert (await sinfer(deployment, "dlq", "list", "--task", task.id, "--json")).json == []
    assert (await sinfer(deployment, "audit", "--task", task.id)).code == exit_codes.OK


async def dead_letters(connections: Connections, task: Task, *, history: int) -> bool:
    return any(len(x.history) == history for x in await connections.dead_letters(task))


def closing_rows(task: Task) -> Any:
    """The rows of the SQL sink, with their own columns, by the id in the result."""
    import sqlite3
    from contextlib import nullcontext

    with closing(sqlite3.connect(task.database)) as connection:
        connection.row_factory = sqlite3.Row
        found = [dict(row) for row in connection.execute("SELECT * FROM results")]
    return nullcontext({json.loads(row["result"])["id"]: row for row in found})


async def test_messages_that_never_were_in_a_window_are_redriven_or_say_why_not(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(
        deployment, connections, "loose", limits={"lease": "2s", "max_message_bytes": 100}
    )
    large = json.dumps({"id": 1, "pad": "x" * 200}).encode()
    await connections.publish(task, [large, b"no json", {"id": 2}, {"id": 3}])
    await connections.settled(task, 4)
    assert len(await connections.dead_letters(task)) == 2
    deployment.order(task.id, limits={"lease": "2s"})
    answer = await sinfer(deployment, "dlq", "redrive", "--task", task.id, "--all", "--json")
    assert answer.code == exit_codes.FAILED
    assert answer.json["letters"] == 1
    assert answer.json["failed"] == 1
    account = await connections.settled(task, 4)
    assert (account.sunk, account.dead) == (3, 1)
    await connections.assert_one_result_each(task, [1, 2, 3])
    [letter] = await connections.dead_letters(task)
    assert letter.message.data == b"no json"
    assert len(letter.history) == 1

    purge = ["dlq", "purge", "--task", task.id, "--json"]
    assert (await sinfer(deployment, "dlq", "purge", "--yes")).code == exit_codes.USAGE
    assert (await sinfer(deployment, *purge, "--error", "other", "--yes")).json == {"removed": 0}
    assert (await sinfer(deployment, *purge, "--all", "--yes")).json == {"removed": 1}
    assert (await sinfer(deployment, "audit", "--task", task.id)).code == exit_codes.OK


async def test_a_window_that_runs_again_replaces_its_results(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "again")
    await connections.publish(
        task, [m for n in range(20) for m in numbers(n, n + 1, key="ab"[n % 2])]
    )
    await connections.settled(task, 20)
    listed = (await sinfer(deployment, "windows", "list", "--task", task.id, "--json")).json
    assert {entry["key"]: entry["count"] for entry in listed} == {"a": 10, "b": 10}
    window = next(entry for entry in listed if entry["key"] == "a")
    shown = (await sinfer(deployment, "windows", "show", window["window"], "--json")).json
    assert shown["sequences"] == list(range(1, 21, 2))
    assert shown["model"].startswith("example")
    with closing_rows(task) as before:
        pass
    answer = await sinfer(deployment, "windows", "rerun", window["window"], "--wait")
    assert answer.code == exit_codes.OK, answer.err
    with closing_rows(task) as after:
        for id, row in before.items():
            changed = "attempt" if id % 2 == 0 else ""
            assert {
                k: v for k, v in row.items() if k not in (changed, "written_at", "closed_at")
            } == {
                k: v for k, v in after[id].items() if k not in (changed, "written_at", "closed_at")
            }
        assert after[0]["attempt"] == before[0]["attempt"] + 1
    assert len(after) == 20
    assert (await sinfer(deployment, "audit", "--task", task.id)).code == exit_codes.OK
    answer = await sinfer(deployment, "windows", "rerun", f"{task.id}/x/all/1")
    assert answer.code == exit_codes.FAILED
    assert "limits.ledger" in answer.err


async def test_where_finds_every_message(deployment: Deployment, connections: Connections) -> None:
    task = await ordered(deployment, connections, "where", window=LONG)
    await connections.publish(task, [*numbers(0, 10), b"bad", {"id": -1}, *numbers(10, 13)])
    await until(lambda: fetched(connections, task, 15), "all to be fetched")
    await until(lambda: sunk(connections, task, 10), "the first window")
    expected = {3: "done", 11: "dead", 12: "filtered", 14: "open", 99: "not fetched"}
    for seq, state in expected.items():
        answer = await sinfer(deployment, "where", "--task", task.id, "--seq", str(seq), "--json")
        assert [place["state"] for place in answer.json] == [state], seq
        assert answer.code == exit_codes.OK
    assert (await sinfer(deployment, "where", "--task", "nope", "--seq", "1")).code == (
        exit_codes.CONFIGURATION
    )


async def fetched(connections: Connections, task: Task, messages: int) -> bool:
    return (await connections.account(task)).fetched == messages


async def sunk(connections: Connections, task: Task, messages: int) -> bool:
    return (await connections.account(task)).sunk == messages


async def test_a_paused_task_stands_still_and_says_so_until_it_is_resumed(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = await ordered(deployment, connections, "paused")
    await connections.process(task, 0, 10)
    names = ["--product", deployment.product, "--task", task.id]
    answer = await sinfer(deployment, "pause", *names, "--reason", "new model")
    assert answer.code == exit_codes.OK
    status = ["status", "--task", task.id]
    assert "PAUSED (all: new model)" in (await sinfer(deployment, *status)).out
    await wait_for_log(running[0], f"{task.scope}: pulling stops: paused: new model")
    await connections.publish(task, numbers(10, 20))
    other = await ordered(deployment, connections, "not-paused")
    for first in (0, 10):  # what came later elsewhere is read and done meanwhile
        await connections.publish(other, numbers(first, first + 10))
        await connections.settled(other, first + 10)
    [standing] = (await sinfer(deployment, *status, "--json")).json
    assert standing["lag"] == 10
    assert standing["ingestors"] == 1
    assert (await sinfer(deployment, "resume", *names)).out == (
        f"{deployment.product}/{task.id} goes on.\n"
    )
    await connections.settled(task, 20)
    await connections.assert_one_result_each(task, range(20))
    assert (await sinfer(deployment, "pause", "--product", deployment.product, "--task", "x")).code
    assert "PAUSED" not in (await sinfer(deployment, *status)).out


async def test_a_drain_leaves_nothing_and_reads_nothing_until_it_is_resumed(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "drained", window=LONG)
    await connections.publish(task, numbers(0, 13))
    await until(lambda: fetched(connections, task, 13), "all to be fetched")
    names = ["--product", deployment.product, "--task", task.id]
    answer = await sinfer(deployment, "drain", *names, "--timeout", "30s")
    assert answer.code == exit_codes.OK, answer.err
    account = await connections.account(task)
    assert (account.sunk, account.held) == (13, 0)
    assert {row["reason"] for row in rows(task)} == {"count", "drain"}
    await connections.publish(task, numbers(13, 23))
    assert (await sinfer(deployment, "drain", *names)).code == exit_codes.OK
    assert (await connections.account(task)).fetched == 13
    await sinfer(deployment, "resume", *names)
    await connections.settled(task, 23)
    await connections.assert_one_result_each(task, range(23))


async def test_a_partition_that_cannot_be_read_keeps_no_other_from_being_drained(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "beside", window=LONG)
    await connections.publish(task, numbers(0, 3))
    await until(lambda: fetched(connections, task, 3), "all to be fetched")
    bad = Scope(deployment.product, task.id, "in.bad")
    await connections.redis.set(PartitionKeys(bad).open, "no hash")
    await connections.redis.sadd(keys.PARTITIONS, str(bad))
    names = ["--product", deployment.product, "--task", task.id]
    try:
        answer = await sinfer(deployment, "drain", *names, "--timeout", "15s")
    finally:
        await connections.redis.srem(keys.PARTITIONS, str(bad))
        await connections.redis.delete(PartitionKeys(bad).open)
        await sinfer(deployment, "resume", *names)
    assert answer.code == exit_codes.FAILED
    assert f"{bad} cannot be drained: " in answer.err
    assert "Traceback" not in answer.err
    await connections.assert_one_result_each(task, range(3))


async def test_a_drain_closes_what_no_ingestor_looks_after(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = await ordered(deployment, connections, "deserted", window=LONG)
    await connections.publish(task, numbers(0, 3))
    await until(lambda: fetched(connections, task, 3), "all to be fetched")
    running[0].stop()
    try:
        names = ["--product", deployment.product, "--task", task.id]
        answer = await sinfer(deployment, "drain", *names, "--timeout", "30s")
        assert answer.code == exit_codes.OK, answer.err
        await connections.assert_one_result_each(task, range(3))
        await sinfer(deployment, "resume", *names)
    finally:
        running[0] = deployment.ingest()
        deployment.start(running[0])
    await connections.process(task, 3, 13)


async def test_an_audit_fails_when_a_message_is_missing_or_a_window_is_stranded(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "audited")
    await connections.process(task, 0, 10)
    keys = PartitionKeys(task.scope)
    audit = ["audit", "--task", task.id, "--json"]
    assert (await sinfer(deployment, *audit)).code == exit_codes.OK
    await connections.redis.hincrby(keys.meta, "sunk", -2)
    answer = await sinfer(deployment, *audit)
    assert answer.code == exit_codes.FAILED
    assert answer.json[0]["missing"] == 2
    await connections.redis.hincrby(keys.meta, "sunk", 2)
    assert (await sinfer(deployment, *audit)).code == exit_codes.OK


async def test_what_is_gone_is_told_until_it_is_written_off(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "gone")
    await connections.process(task, 0, 10)
    one = ("--product", deployment.product, "--task", task.id)
    nothing = await sinfer(deployment, "write-off", *one)
    assert (nothing.code, nothing.out) == (exit_codes.OK, "Nothing is gone.\n")

    # As an ingestor notes it that finds the store behind what was acknowledged.
    await connections.redis.hset(PartitionKeys(task.scope).gone, "4", "7 4")
    await connections.jetstream.purge_stream(task.id)
    audited = await sinfer(deployment, "audit", *one)
    assert audited.code == exit_codes.FAILED
    assert "4 messages are gone" in audited.err
    status = await sinfer(deployment, "status", *one)
    assert "sequences 4-7. Publish them again" in status.out
    assert "sinfer write-off --product counting --task gone" in status.out

    asked = await sinfer(deployment, "write-off", *one, "--json")
    assert asked.code == exit_codes.USAGE
    done = await sinfer(deployment, "write-off", *one, "--yes", "--json")
    assert [(row["messages"], row["sequences"]) for row in done.json] == [(4, [[4, 7]])]
    [row] = (await sinfer(deployment, "audit", *one, "--json")).json
    assert (row["missing"], row["gone"], row["written_off"]) == (0, [], 4)


async def test_metrics_show_the_balance_and_what_waits(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "measured")
    await connections.publish(task, [*numbers(0, 10), b"bad"])
    await connections.settled(task, 11)
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    service = Service(
        "metrics", ["sinfer", "metrics", "--port", str(port)], answers(url), deployment.place
    )
    service.start()
    try:
        await asyncio.to_thread(service.wait_until_ready)
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    finally:
        service.stop()
    labels = f'{{partition="{task.subject}",product="{deployment.product}",task="{task.id}"}}'
    assert f"sinfer_messages_missing{labels} 0.0" in text
    assert f"sinfer_letters{labels} 1.0" in text
    assert f"sinfer_sunk{labels} 10.0" in text
    assert "sinfer_store_up 1.0" in text


async def test_caps_remove_the_oldest_letters_and_copies_go_to_a_stream(
    deployment: Deployment, connections: Connections
) -> None:
    await connections.jetstream.add_stream(name="copies", subjects=["copies.>"])
    task = await ordered(
        deployment,
        connections,
        "capped",
        limits={"lease": "2s", "max_dead_letters": 3},
        dead_letter_subject="copies.capped",
    )
    await connections.publish(task, [b"bad %d" % n for n in range(5)])
    await connections.settled(task, 5)

    async def is_capped() -> bool:
        return len(await connections.dead_letters(task)) == 3

    await until(is_capped, "the cap to be kept")
    assert [x.message.data for x in await connections.dead_letters(task)] == [
        b"bad 2", b"bad 3", b"bad 4",
    ]  # fmt: skip
    assert await connections.redis.hget(PartitionKeys(task.scope).meta, "trimmed") == b"2"

    async def are_copied() -> bool:
        return (await connections.jetstream.stream_info("copies")).state.messages == 5

    await until(are_copied, "the copies")
    copy = await connections.jetstream.get_msg("copies", 1)
    assert copy.data == b"bad 0"
    assert copy.headers is not None
    assert copy.headers["Sinfer-Task"] == task.id
    assert copy.headers["Sinfer-Sequence"] == "1"
    assert "JSONDecodeError" in copy.headers["Sinfer-Error"]


async def test_a_preflight_finds_what_does_not_fit(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "checked")
    await connections.publish(task, numbers(0, 1))
    check = ["check", "--product", deployment.product, "--task", task.id, "--json"]
    answer = await sinfer(deployment, *check)
    found = [finding for finding in answer.json if "has one replica" not in finding["text"]]
    verdicts = {finding["what"]: finding["verdict"] for finding in found}
    name = f"{deployment.product}/{task.id}"
    assert verdicts[f"{name} source"] == "ok"
    assert verdicts[f"{name} model"] == "ok"
    assert verdicts[f"{name} request"] == "ok"
    assert verdicts["broker"] == "ok"
    assert answer.code == exit_codes.OK

    model = {"type": "v2", "url": deployment.model.url, "model": "nope"}
    deployment.order(task.id, inference=model)
    answer = await sinfer(deployment, *check)
    assert answer.code == exit_codes.CONFIGURATION
    assert any("it has no model 'nope'" in finding["text"] for finding in answer.json)
    model["url"] = f"http://127.0.0.1:{free_port()}"
    deployment.order(task.id, inference=model)
    assert (await sinfer(deployment, *check)).code == exit_codes.UNREACHABLE
    deployment.order(task.id, source={"stream": "missing"})
    answer = await sinfer(deployment, *check)
    assert answer.code == exit_codes.CONFIGURATION
    assert any("does not exist" in finding["text"] for finding in answer.json)
    deployment.withdraw(task)


async def test_limits_of_a_consumer_that_windows_cannot_live_with_are_told_with_the_remedy(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = Task(deployment, "limited")
    await connections.make_streams(task)
    consumer = ConsumerConfig(
        durable_name="narrow", filter_subject=task.subject, max_ack_pending=5, ack_wait=1.0,
        max_deliver=3,
    )  # fmt: skip
    await connections.jetstream.add_consumer(task.id, consumer)
    source = {"stream": task.id, "subject": task.subject, "durable": "narrow", "ack": "done"}
    deployment.order(task.id, source=source)
    too_large = (
        "windows of 10 messages never become full, since the consumer allows 5 unacknowledged"
        " messages; raise its max_ack_pending"
    )
    answer = await sinfer(
        deployment, "check", "--product", deployment.product, "--task", task.id, "--json"
    )
    assert answer.code == exit_codes.CONFIGURATION
    texts = {finding["text"]: finding["verdict"] for finding in answer.json}
    assert texts[f"{task.subject}: {too_large}"] == "error"
    [ack_wait] = [text for text in texts if "has ack_wait 1 s" in text]
    assert "set ack_wait" in ack_wait
    [max_deliver] = [text for text in texts if "has max_deliver 3" in text]
    [only_in_redis] = [text for text in texts if "set dead_letter_subject" in text]
    assert texts[ack_wait] == texts[max_deliver] == texts[only_in_redis] == "warning"
    await wait_for_log(running[0], too_large)

    # Nothing has to be restarted once it is corrected.
    await connections.jetstream.add_consumer(task.id, replace(consumer, max_ack_pending=1000))
    await connections.process(task, 0, 20)
    await connections.assert_one_result_each(task, range(20))


async def test_a_pause_survives_the_restart_of_everything(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = await ordered(deployment, connections, "outlasting")
    other = await ordered(deployment, connections, "awake")
    await connections.process(task, 0, 10)
    names = ["--product", deployment.product, "--task", task.id]
    await sinfer(deployment, "pause", *names, "--reason", "over night")
    for service in running:
        service.stop()
    deployment.redis.restart()
    deployment.nats.restart()
    running[:] = [deployment.ingest(), deployment.worker(), deployment.beat()]
    deployment.start(*running)
    # Another task works, so all processes are there; the paused one stands still.
    await connections.publish_surely(task, numbers(10, 20))
    await connections.publish_surely(other, numbers(0, 10))
    await connections.settled(other, 10)
    await wait_for_log(running[0], f"{task.scope}: pulling stops: paused: over night")
    assert (await connections.account(task)).fetched == 10
    assert "over night" in (await sinfer(deployment, "status", "--task", task.id)).out
    await sinfer(deployment, "resume", *names)
    await connections.settled(task, 20)
    await connections.assert_one_result_each(task, range(20))


async def test_a_paused_product_is_all_of_its_tasks(
    deployment: Deployment, connections: Connections, running: list[Service]
) -> None:
    task = await ordered(deployment, connections, "one-of-many")
    await sinfer(deployment, "pause", "--product", deployment.product, "--reason", "all of it")
    try:
        # Not all partitions have a line of their own, when many say the same.
        await wait_for_log(running[0], "pulling stops: paused: all of it")
        await connections.publish(task, numbers(0, 10))
        one = await sinfer(deployment, "resume", "--product", deployment.product, "--task", task.id)
        assert "resume it without --task" in one.err
        assert (await connections.account(task)).fetched == 0
    finally:
        answer = await sinfer(deployment, "resume", "--product", deployment.product)
    assert answer.code == exit_codes.OK
    await connections.settled(task, 10)


async def test_a_drain_that_takes_too_long_says_what_is_left_and_goes_on(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "stuck")
    names = ["--product", deployment.product, "--task", task.id]
    deployment.model.order({"status": 503, "count": None})
    await connections.publish(task, numbers(0, 10))
    await until(lambda: fetched(connections, task, 10), "all to be fetched")
    answer = await sinfer(deployment, "drain", *names, "--timeout", "1s")
    assert answer.code == exit_codes.FAILED
    assert f"1 windows of {deployment.product}/{task.id} are left; they go on." in answer.err
    assert "is the model there?" in answer.err
    deployment.model.reset()
    await connections.settled(task, 10)
    answer = await sinfer(deployment, "drain", *names, "--timeout", "30s")
    assert (answer.code, answer.out) == (
        exit_codes.OK,
        f"{deployment.product}/{task.id} is empty; `sinfer resume` goes on.\n",
    )
    await sinfer(deployment, "resume", *names)
    assert (await sinfer(deployment, "drain", *names, "--timeout", "soon")).code == exit_codes.USAGE


async def test_the_ledger_tells_what_each_window_took_and_keeps_the_latest(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "ledgered", limits={"lease": "2s", "ledger": 3})
    deployment.model.order({"delay_ms": 30, "count": None})
    for first in range(0, 50, 10):
        await connections.publish(task, [*numbers(first, first + 9), b"bad", {"id": first + 9}])
        await connections.settled(task, (first // 10 + 1) * 11)
    listed = (await sinfer(deployment, "windows", "list", "--task", task.id, "--json")).json
    first_seqs = [45, 34, 23]
    assert [entry["first_seq"] for entry in listed] == first_seqs  # the latest first
    for entry, first_seq in zip(listed, first_seqs, strict=True):
        assert entry["window"] == f"{task.id}/{task.subject}/all/{first_seq}"
        assert (entry["last_seq"], entry["count"], entry["dead"]) == (first_seq + 10, 10, 0)
        assert (entry["close_reason"], entry["attempts"], entry["revision"]) == ("count", 1, 0)
        assert entry["kind"] == "first"
        assert entry["model"].startswith("example")
        assert entry["inference_ms"] >= 30
        assert entry["sinks_ms"] >= 0
        spent_ms = entry["waited_ms"] + entry["inference_ms"] + entry["sinks_ms"]
        assert entry["done_ms"] - entry["closed_ms"] >= spent_ms - 3  # each is rounded
        shown = (await sinfer(deployment, "windows", "show", entry["window"], "--json")).json
        assert shown["sequences"] == [
            seq for seq in range(first_seq, first_seq + 11) if seq != first_seq + 9
        ]
    gone = await sinfer(deployment, "windows", "show", f"{task.id}/{task.subject}/all/1")
    assert gone.code == exit_codes.FAILED
    assert "limits.ledger" in gone.err


@pytest.mark.long
async def test_windows_that_lost_their_messages_are_set_aside_and_rebuilt_from_the_stream(
    deployment: Deployment, connections: Connections
) -> None:
    task = await ordered(deployment, connections, "torn")
    of_task = ("--task", task.id)
    assert (await sinfer(deployment, "pause", *of_task, "--processing")).code == exit_codes.OK
    await connections.publish(task, numbers(0, 30))
    keys: PartitionKeys = PartitionKeys(task.scope)
    redis: Any = connections.redis
    await until(lambda: fetched(connections, task, 30), "all to be fetched")
    closed = sorted(await redis.hkeys(keys.closed))
    for name in closed[:2]:
        await redis.delete(keys.segment(name.decode()))
    await sinfer(deployment, "resume", *of_task)

    async def is_aside() -> bool:
        return int(await redis.hlen(keys.aside)) == 2

    await until(is_aside, "two windows to be set aside")
    await until(lambda: sunk(connections, task, 10), "the third window")
    answer = await sinfer(deployment, "audit", *of_task, "--json")
    assert answer.code == exit_codes.FAILED
    [row] = answer.json
    assert row["missing"] == 20
    gone = sorted(seq for damaged in row["damaged"] for seq in damaged["sequences"])
    assert len(gone) == 20
    text = (await sinfer(deployment, "audit", *of_task)).err
    assert f"{closed[0].decode()} (set aside): 10 of 10 messages are gone" in text
    assert "windows rebuild --all" in text
    assert "2 windows are set aside" in (await sinfer(deployment, "status", *of_task)).out
    listed = (await sinfer(deployment, "windows", "list", *of_task, "--aside", "--json")).json
    assert sorted(seq for window in listed for seq in window["gone"]) == gone
    where = await sinfer(deployment, "where", *of_task, "--seq", str(gone[0]), "--json")
    assert [place["state"] for place in where.json] == ["missing"]

    rebuilt = await sinfer(deployment, "windows", "rebuild", *of_task, "--all")
    assert rebuilt.code == exit_codes.OK, rebuilt.err
    await connections.settled(task, 30)
    await connections.assert_one_result_each(task, range(30))
    answer = await sinfer(deployment, "audit", *of_task, "--deep", "--json")
    assert answer.code == exit_codes.OK, answer.out
    assert answer.json[0]["deep"]["findings"] == []
    again = await sinfer(deployment, "windows", "rebuild", closed[0].decode())
    assert again.code == exit_codes.FAILED
    assert "is not set aside" in again.err


async def test_where_tells_window_attempts_sinks_and_dead_letter(
    deployment: Deployment, connections: Connections
) -> None:
    port = free_port()  # nobody listens there
    sinks = [
        Task(deployment, "followed").sql,
        {"type": "http", "name": "away", "url": f"http://127.0.0.1:{port}/"},
    ]
    task = await ordered(deployment, connections, "followed", sinks=sinks, limits={"lease": "2s"})
    window = f"{task.id}/{task.subject}/all/1"
    late = {"status": 504, "value": 3.0, "count": 1}  # an attempt that counts
    deployment.model.order(late, {"status": 400, "value": 3.0, "count": None})
    await connections.publish(task, numbers(0, 10))

    async def where(seq: int) -> dict[str, Any]:
        answer = await sinfer(deployment, "where", "--task", task.id, "--seq", str(seq), "--json")
        [place] = answer.json
        assert isinstance(place, dict)
        return place

    async def waits_for_a_sink() -> bool:
        return bool((await where(1))["sinks"] == ["sql-0"])

    await until(waits_for_a_sink, "one sink to have the results while the other is away")
    place = await where(1)
    assert place["state"] in ("closed", "leased")
    assert place["window"] == window
    assert place["due_ms"] > 0

    deployment.order(task.id, limits={"lease": "2s"}, sinks=[task.sql])
    await connections.settled(task, 10)
    place = await where(1)
    assert (place["state"], place["window"], place["sinks"]) == ("done", window, ["sql-0"])
    assert place["attempts"] >= 2
    dead = await where(4)
    [letter] = (await sinfer(deployment, "dlq", "list", "--task", task.id, "--json")).json
    assert (dead["state"], dead["window"], dead["letter"]) == ("dead", window, letter["id"])
    assert "inference: " in dead["text"]
    assert {row["id"] for row in rows(task)} == set(range(10)) - {3}
