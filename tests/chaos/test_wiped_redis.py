"""Redis is wiped in mid-run, with ``ack: done``; ``wiping_storm`` says what is promised."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.progress import Progress
from tests.chaos.site import Site
from tests.chaos.verdict import Verdict, read_outcomes
from tests.chaos.wiping_storm import ACK_WHEN_DONE, compare, unacknowledged
from tests.support.until import until


async def test_a_wiped_redis_loses_no_message_and_repeats_no_result(tmp_path: Path) -> None:
    with Site(tmp_path, tasks=ACK_WHEN_DONE, workers=1, beats=1) as site:
        await site.make_streams()
        await asyncio.to_thread(site.start)
        progress = Progress(site)
        load = Load(site, messages=3000, per_second=400)
        publishing = asyncio.create_task(load.run())
        client = await site.connect()
        # Some windows are in the model's hands at any time, others wait.
        site.model.order({"mode": "ok", "delay_ms": 100, "count": None})
        try:
            for wipe in range(1, 4):
                await progress.until_ended(wipe * 10)
                await progress.store.ask(progress.store.redis.flushall())
            await publishing
            await _all_acknowledged(site, load)
            verdict = Verdict()
            for task in site.tasks:
                found = await read_outcomes(site, client, progress.store, task)
                compare(task, found, load.per_task, verdict)
            assert verdict.is_clean, str(verdict)
        finally:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)
            await client.close()
            await progress.aclose()


async def _all_acknowledged(site: Site, load: Load) -> None:
    started = time.monotonic()

    async def nothing_left() -> bool:
        return await unacknowledged(site) == 0

    await until(nothing_left, "all messages to be acknowledged", 90)
    total = len(site.tasks) * load.per_task
    print(f"all {total} messages acknowledged after {time.monotonic() - started:.1f} s")
