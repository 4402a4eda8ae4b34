"""Messages that end their process, looked at in one of their own: exactly these become dead."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sinfer import InferTaskConfig, Message
from sinfer.errors import InvalidItemError
from sinfer.ingest.entries import Prepared
from sinfer.ingest.isolation import (
    CarefulError,
    CarefulPreparer,
    asking_with_care,
    ended_a_process,
    look_at,
)
from sinfer.ingest.windower import Refusals
from sinfer.windows.planner import WindowStats
from tests.integration.ingest.fatal_pipeline import Fatal
from tests.support import task_settings

pytestmark = pytest.mark.integration

NOW_MS = 1_700_000_000_000


def task_of(id: str = "t", **limits: Any) -> InferTaskConfig:
    return task_settings.task_of(id, limits=limits)


def careful_of(task: InferTaskConfig) -> CarefulPreparer:
    return CarefulPreparer(Fatal, task, "p/t/s")


async def prepare_all(careful: CarefulPreparer, *data: str) -> Prepared:
    messages = [Message(text.encode(), "s", {"h": "v"}, n, 1) for n, text in enumerate(data, 1)]
    prepared = Prepared()
    while prepared.count < len(messages):
        prepared.add(await careful.prepare(messages[prepared.count :], NOW_MS))
    return prepared


SIGNS = {
    "segv": "SIGSEGV",
    "leave": "exit code 3",
    "oom": "SIGKILL, as when memory runs out",
    "abort": "SIGABRT",
}


@pytest.mark.parametrize(
    "ways", [["segv"], pytest.param(["leave", "oom", "abort"], marks=pytest.mark.long)]
)
async def test_each_that_ends_the_process_is_dead_with_its_reason_and_no_other(
    ways: list[str],
) -> None:
    careful = careful_of(task_of())
    found = await prepare_all(careful, "a", "skip", "exit", *ways, "b")
    await careful.release()
    assert [entry.key for entry in found.entries] == ["a", "b"]
    assert found.filtered == 1
    exited, *killed = found.dead
    assert exited.error.startswith("SystemExit")
    reasons = [letter.error.rpartition("process: ")[2] for letter in killed]
    assert reasons == [SIGNS[way] for way in ways]
    assert all(ended_a_process(letter.error) for letter in killed)
    assert killed[0].message == Message(ways[0].encode(), "s", {"h": "v"}, 4, 1)


@pytest.mark.long
@pytest.mark.parametrize("way", ["hang", "grab"])
async def test_one_that_never_returns_is_ended(way: str) -> None:
    careful = careful_of(task_of(hook_timeout="1s"))
    found = await prepare_all(careful, "a", way, "b")
    await careful.release()
    assert [entry.key for entry in found.entries] == ["a", "b"]
    assert "did not return within 1 s (limits.hook_timeout)" in found.dead[0].error


@pytest.mark.long
async def test_the_victim_of_another_message_is_not_blamed() -> None:
    careful = careful_of(task_of())
    found = await prepare_all(careful, "break", "a", "victim", "b")
    await careful.release()
    assert found.dead == []
    assert [entry.key for entry in found.entries] == ["break", "a", "victim", "b"]


@pytest.mark.long
async def test_a_trigger_is_asked_in_the_other_process() -> None:
    def never(window: WindowStats, item: Any) -> bool:
        raise AssertionError("asked in this process")

    ask = asking_with_care(never)
    careful = careful_of(task_of())
    found = await prepare_all(careful, "a", "last", "fatal-trigger", "b")
    stats = WindowStats(1, 1, None, None)
    assert [ask(stats, found.entries[place].item) for place in (0, 1, 3)] == [False, True, False]
    with pytest.raises(InvalidItemError, match="ended its process: SIGSEGV"):
        ask(stats, found.entries[2].item)
    assert ask(stats, found.entries[1].item)
    await careful.release()


async def test_where_each_message_kills_the_product_is_to_blame_and_the_rest_is_spared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sinfer.ingest.isolation._MOST_KILLED", 1)
    refusals = Refusals()
    careful = CarefulPreparer(Fatal, task_of(), "p/t/s", refusals)
    messages = [Message(b"leave", "s", None, seq, 1) for seq in (1, 2, 3)]
    assert (await careful.prepare(messages[:1], NOW_MS)).count == 1
    with pytest.raises(CarefulError, match=r"one message after the other.*next is .* 2"):
        await careful.prepare(messages[1:], NOW_MS)
    await careful.release()
    again = CarefulPreparer(Fatal, task_of(), "p/t/s", refusals)
    with pytest.raises(CarefulError, match="one message after the other"):
        await again.prepare(messages[1:], NOW_MS)
    assert (await again.prepare([Message(b"a", "s", None, 1, 1)], NOW_MS)).count == 1
    assert (await again.prepare(messages[1:2], NOW_MS)).count == 1
    await again.release()


async def test_a_product_that_cannot_be_made_says_so() -> None:
    careful = careful_of(task_of("cannot-be-made"))
    with pytest.raises(CarefulError, match="cannot be loaded in a process of its own: SIGSEGV"):
        await careful.try_out()

    class Local(Fatal):
        pass

    with pytest.raises(CarefulError, match="importable"):
        await CarefulPreparer(Local, task_of(), "p/t/s").try_out()


async def test_closing_it_interrupts_a_hook_that_hangs() -> None:
    careful = careful_of(task_of())
    await careful.try_out()
    preparing = asyncio.create_task(careful.prepare([Message(b"hang", "s", None, 1, 1)], NOW_MS))
    began_s = time.monotonic()
    await asyncio.sleep(0)
    careful.close()
    with pytest.raises(CarefulError, match="told to stop"):
        await preparing
    assert time.monotonic() - began_s < 10


async def test_a_command_that_looks_at_a_message_is_not_ended_by_it() -> None:
    def message(text: str) -> Message:
        return Message(text.encode(), "s", None, 1, 1)

    pipeline = Fatal(task_of())
    killer = await look_at(pipeline, message("segv"), NOW_MS, name="p/t/s")
    assert [letter.error for letter in killer.dead] == [
        "preprocess, key or event_time: ended its process: SIGSEGV"
    ]
    good = await look_at(pipeline, message("a"), NOW_MS, name="p/t/s")
    assert [(entry.key, entry.item) for entry in good.entries] == [("a", "a")]

    class Local(Fatal):
        """No other process can import it."""

    local = await look_at(Local(task_of()), message("a"), NOW_MS, name="p/t/s")
    assert [entry.item for entry in local.entries] == ["a"]
