"""Redis is wiped in mid-run, with ``ack: done``: what is promised, and what is not.

Promised: every message that was not dead-lettered has a correct result in every sink.

Not promised: that it has only one. What was read and not acknowledged is read again and gets into
other windows, so a result that was written just before may be there once more. Dead letters, the
account and pauses are in Redis, so they go with it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.messages import fate
from tests.chaos.progress import Progress
from tests.chaos.site import Site, TaskPlan
from tests.chaos.verdict import read_outcomes
from tests.e2e.harness import wait_for

COUNT = TaskPlan(
    "counted", {"type": "count", "count": 20, "max_wait": "1s"}, durable=True, ack="done"
)
CLOCK = TaskPlan(
    "clocked", {"type": "tumbling", "size": "500ms"}, durable=True, ack="done", keyed=True
)


async def test_a_wiped_redis_loses_no_message_that_waits_for_its_window(tmp_path: Path) -> None:
    with Site(tmp_path, tasks=(COUNT, CLOCK), workers=1, beats=1) as site:
        await site.make_streams()
        await asyncio.to_thread(site.start)
        progress = Progress(site)
        load = Load(site, messages=4000, per_second=400)
        publishing = asyncio.create_task(load.run())
        # Some windows are in the model's hands at any time, others wait.
        site.model.order({"mode": "ok", "delay_ms": 100, "count": None})
        try:
            for wipe in range(1, 4):
                await _ended(progress, wipe * 10)
                await progress.store.ask(progress.store.redis.flushall())
            await publishing
            await _all_acknowledged(site, load)
            client = await site.connect()
            for task in site.tasks:
                found = await read_outcomes(site, client, progress.store, task)
                assert not found.wrong
                wanted = {n for n in range(load.per_task) if fate(n) == "result"}
                assert wanted - found.sql.keys() == set(), task.id
                assert wanted - found.jetstream.keys() == set(), task.id
                assert found.sql.keys() | found.jetstream.keys() <= wanted
                again = sum(found.sql[n] > 1 for n in wanted)
                print(f"{task.id}: {len(wanted)} messages, {again} with a result more than once")
            await client.close()
        finally:
            publishing.cancel()
            await progress.aclose()


async def _ended(progress: Progress, messages: int) -> None:
    async def have() -> bool:
        ended = await progress.ended()
        return bool(ended) and min(ended.values()) >= messages

    await wait_for(have, f"{messages} messages of each task to come to their end", 60)


async def _all_acknowledged(site: Site, load: Load) -> None:
    client = await site.connect()
    started = time.monotonic()

    async def nothing_left() -> bool:
        for task in site.tasks:
            info = await client.jetstream().consumer_info(task.id, f"{task.id}-reader")
            if info.num_pending or info.num_ack_pending:
                return False
        return True

    await wait_for(nothing_left, "all messages to be acknowledged", 90)
    print(f"all {2 * load.per_task} messages acknowledged after {time.monotonic() - started:.1f} s")
    await client.close()
