"""Hostile input: each message is taken or dead-lettered, each task is taken or refused."""

from __future__ import annotations

from typing import Any

from sinfer import Product, StaticTaskManager
from sinfer.ingest.entries import Preparer
from sinfer.types.message import Message
from sinfer.windows.dead_letters import pack_dead_letter, unpack_dead_letter
from sinfer.windows.ids import count_window_id
from sinfer.windows.item_key import checked_key
from tests.chaos.fuzz import GOOD_TASK, fuzzed_messages, fuzzed_tasks
from tests.chaos.product import ChaosPipeline, ChaosTask

SEED = 9


def preparer() -> Preparer:
    task = ChaosTask.model_validate(GOOD_TASK | {"limits": {"max_message_bytes": "1MiB"}})
    return Preparer(ChaosPipeline(task))


def test_each_hostile_message_is_taken_or_dead_lettered_and_harms_no_neighbour() -> None:
    prepare = preparer().prepare
    good = b'{"id": 1, "key": "k", "time": 1, "fate": "result"}'
    hostile = [*fuzzed_messages(SEED, 20_000), b" " * (10 << 20), b"[" * (10 << 20)]
    dead = 0
    for first in range(0, len(hostile), 100):
        part = hostile[first : first + 100]
        datas = [data for bad in part for data in (good, bad)]
        messages = [Message(data, "in.t", None, seq, 0) for seq, data in enumerate(datas, 1)]
        prepared = prepare(messages, 0)
        assert len(prepared.entries) + len(prepared.dead) + prepared.filtered == len(messages)
        taken = {entry.message.stream_seq for entry in prepared.entries}
        assert taken >= set(range(1, len(messages), 2))  # the neighbours
        for entry in prepared.entries:
            checked_key(entry.key, 256)
            window_id = count_window_id("t/in.t/", entry.key, 1)
            assert len(window_id.split("/")) == 4
            assert not set(window_id) & set("{}\n\r\x00 ")
        for letter in prepared.dead:
            assert letter.error
            assert "\n" not in letter.error
            assert len(letter.error) <= 500
            assert unpack_dead_letter(pack_dead_letter(letter)) == letter
        dead += len(prepared.dead)
    assert dead > 10_000


async def test_each_hostile_task_is_taken_or_refused_with_its_reason_and_harms_no_neighbour() -> (
    None
):
    neighbour: dict[str, Any] = GOOD_TASK | {"id": "neighbour"}
    refused = 0
    for task in fuzzed_tasks(SEED, 3_000):
        tasks: Any = StaticTaskManager([neighbour, task])
        listed = await Product("fuzzed", tasks=tasks, pipeline=ChaosPipeline).list_tasks()
        assert "neighbour" in listed.tasks
        assert len(listed.tasks) + len(listed.problems) == 2
        assert all(listed.problems.values())
        refused += len(listed.problems)
    assert refused > 1_500
