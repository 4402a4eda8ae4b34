"""Who may begin windows in a worker process: shares, turns, and the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sinfer.worker import slots as module
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.slots import MOST_BYTES, Places
from tests.support.task_settings import Threshold, product_of, settings_of


def task(name: str, most: int = 8) -> ReadyTask:
    inference: dict[str, Any] = {
        "type": "python", "call": "tests.support.task_settings:upper", "max_concurrency": most,
    }  # fmt: skip
    config = Threshold.model_validate(settings_of(name, inference=inference))
    ready = ReadyTask(None, product_of([]), config)
    ready.window_bytes = 1000.0
    return ready


async def test_a_full_process_has_room_for_tasks_below_their_share() -> None:
    places = Places(limit=8)
    greedy, quiet, third = task("greedy", 8), task("quiet"), task("third")
    assert await places.take(greedy, 16) == 8
    assert places.room(greedy) == 0
    assert places.room(quiet) == 4
    assert await places.take(quiet, 16) == 4
    assert places.room(third) == 2
    places.give_back(greedy, 6)
    assert places.room(greedy) == 2  # up to what it was, by what the process has


async def test_however_many_tasks_there_are_each_may_begin_one() -> None:
    places = Places(limit=4)
    tasks = [task(f"t{n}") for n in range(20)]
    for each in tasks:
        assert await places.take(each, 1) == 1
    assert [places.room(each) for each in tasks] == [0] * 20
    assert places.room(task("late")) == 1


async def test_a_task_alone_may_have_what_it_was_given() -> None:
    places = Places(limit=4)
    wide = task("wide", 100)
    assert await places.take(wide, 1000) == 100
    assert places.room(task("other")) == 2


async def test_large_windows_of_a_task_leave_others_their_share_of_the_memory() -> None:
    places, large, small = Places(), task("large", 64), task("small", 64)
    large.window_bytes = float(MOST_BYTES // 10)
    assert await places.take(large, 16) == 10
    for _ in range(10):
        places.weigh(large, MOST_BYTES // 10)
    assert places.room(large) == 0
    assert places.room(small) == 64
    assert await places.take(small, 1) == 1
    assert places.room(small) == 63, "not only one at a time"
    third = task("third", 64)
    third.window_bytes = float(MOST_BYTES // 10)
    assert places.room(third) == 3
    for _ in range(10):
        places.give_back(large, size=MOST_BYTES // 10)
    assert large.bytes == places.bytes == 0


async def test_of_large_windows_fewer_are_under_way() -> None:
    places, large, small = Places(), task("large", 64), task("small", 64)
    large.window_bytes = 0.0
    assert await places.take(large, 16) == 8, "it is not known how large they are"
    for _ in range(8):
        places.weigh(large, MOST_BYTES // 10)
    assert places.room(large) == 2
    assert places.room(small) == 64
    places.weigh(large, 2 * MOST_BYTES)
    assert places.room(large) == 0
    assert places.room(small) == 1, "of each task one may always be begun"
    for _ in range(8):
        places.give_back(large, size=MOST_BYTES // 10)
    assert places.room(large) == 1, "one that has none may begin one, however large"
    places.give_back(large, 0, 2 * MOST_BYTES)
    assert places.bytes == 0


async def test_partitions_of_a_task_take_turns() -> None:
    places = Places(limit=64)
    busy = task("busy", 2)
    turns: list[str] = []

    async def partition(name: str) -> None:
        for _ in range(3):
            taken = await places.take(busy, 2)
            turns.append(name)
            await asyncio.sleep(0)
            places.give_back(busy, taken)

    await asyncio.gather(*(partition(name) for name in "abc"))
    assert turns == list("abcabcabc")


async def test_a_place_that_is_free_again_wakes_who_waits() -> None:
    loads: list[int] = []
    places = Places(limit=1, changed=loads.append)
    one = task("one", 1)
    await places.take(one, 1)
    waiting = asyncio.create_task(places.take(one, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    places.give_back(one)
    assert await waiting == 1
    assert loads == [0, 1, 0, 1]


async def test_at_the_end_nobody_waits_for_a_place() -> None:
    places = Places(limit=1)
    one = task("one", 1)
    await places.take(one, 1)
    waiting = [asyncio.create_task(places.take(one, 1)) for _ in range(3)]
    await asyncio.sleep(0)
    places.close()
    assert await asyncio.gather(*waiting) == [0, 0, 0]
    assert await places.take(task("new"), 1) == 0


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_who_gives_up_waiting_keeps_nobody_from_a_place(cancelled: int) -> None:
    places = Places(limit=1)
    one = task("one", 1)
    await places.take(one, 1)
    waiting = [asyncio.create_task(places.take(one, 1)) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[cancelled].cancel()
    await asyncio.sleep(0)
    places.give_back(one)
    assert await waiting[1 - cancelled] == 1


async def test_what_hangs_lets_a_window_be_alone_never_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_ALONE_S", 0.2)
    monkeypatch.setattr(module, "_LONGEST_TURN_S", 0.1)
    places = Places(limit=8)
    hanging, other, suspect = task("hanging"), task("other"), task("suspect")
    await places.take(hanging, 8)
    async with places.alone(suspect, 60.0) as is_alone:
        assert not is_alone
    assert await asyncio.wait_for(places.take(other, 1), 1.0) == 1
    async with asyncio.timeout(0.1), places.alone(suspect, 60.0) as is_alone:
        assert not is_alone, "others have their turn first"
    assert places.room(other)


async def test_a_window_is_alone_when_others_have_ended() -> None:
    places = Places(limit=8)
    other, suspect = task("other"), task("suspect")
    await places.take(other, 1)
    waiting = asyncio.create_task(places.take(other, 0))
    asyncio.get_running_loop().call_later(0.05, places.give_back, other)
    async with places.alone(suspect, 60.0) as is_alone:
        assert is_alone
        assert places.taken == 1
        assert not places.room(other)
        places.give_back(suspect)
    assert places.room(other)
    waiting.cancel()
