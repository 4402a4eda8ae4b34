"""Ending tasks for sure."""

from __future__ import annotations

import asyncio

from sinfer.aio.cancel import end


async def _waits_for_ever(losing: int = 0) -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not losing:
                raise
            losing -= 1


async def test_a_task_that_loses_cancellations_ends_all_the_same() -> None:
    tasks = [asyncio.create_task(_waits_for_ever(losing)) for losing in range(3)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end(*tasks, again_s=0.01)
    assert all(task.cancelled() for task in tasks)


async def test_a_loop_over_wait_for_ends_whenever_it_is_cancelled() -> None:
    async def loop() -> None:
        while True:
            await asyncio.wait_for(asyncio.sleep(0), 5)

    async with asyncio.timeout(30):
        for moment in range(12):
            task = asyncio.create_task(loop())
            for _ in range(moment):
                await asyncio.sleep(0)
            await end(task, again_s=0.01)
            assert task.cancelled()


async def test_what_a_task_raised_is_dropped_and_one_that_is_done_is_no_trouble() -> None:
    async def fails() -> None:
        raise ValueError("no")

    task = asyncio.create_task(fails())
    await asyncio.wait({task})
    await end(task)
    await end()
