"""Redis with ``appendfsync everysec`` loses its last second, as in a power cut.

Promised, with ``ack: stored`` on a stream with limits retention and no durable: every message has a
correct result in every sink. The position goes back together with the windows, so that what was
lost is read again.

Not promised: that a result is there only once. A window that is filled again may be closed by the
clock at another message, and what comes behind that gets into a window of another name.
``appendfsync always`` loses nothing at all. Durables and work queues are acknowledged only what is
on the disk: ``tests/integration/test_power_cut.py``.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.messages import fate
from tests.chaos.power_loss import PowerLoss
from tests.chaos.progress import Progress
from tests.chaos.site import EVERY_WAY, Site
from tests.chaos.verdict import read_outcomes
from tests.support.until import until

_BY_POSITION = tuple(
    replace(task, window={**task.window, "idle": "3s"}) if task.id == "events" else task
    for task in EVERY_WAY
    if not task.durable
)


async def test_a_lost_second_is_read_again(tmp_path: Path) -> None:
    with Site(tmp_path, tasks=_BY_POSITION, workers=1, beats=1) as site:
        await site.make_streams()
        await asyncio.to_thread(site.start)
        progress = Progress(site)
        power = PowerLoss(site.redis, lost_s=1.0)
        load = Load(site, messages=2400, per_second=400)
        working = [asyncio.create_task(load.run()), asyncio.create_task(power.watch())]
        client = await site.connect()
        try:
            for messages in (150, 400, 650):
                await progress.until_ended(messages)
                assert await asyncio.to_thread(power.strike) > 0
            await working[0]
            await _all_ended(progress, load)
            for task in site.tasks:
                found = await read_outcomes(site, client, progress.store, task)
                assert not found.wrong
                wanted = {n for n in range(load.per_task) if fate(n) == "result"}
                missing = wanted - (found.sql.keys() & found.jetstream.keys())
                assert not missing, f"{task.id}: {sorted(missing)[:20]}"
                again = sum(max(found.sql[n], found.jetstream[n]) > 1 for n in wanted)
                print(f"{task.id}: {len(wanted)} messages, {again} with a result more than once")
        finally:
            for work in working:
                work.cancel()
            await asyncio.gather(*working, return_exceptions=True)
            await client.close()
            await progress.aclose()


async def _all_ended(progress: Progress, load: Load) -> None:
    async def have() -> bool:
        accounts = await progress.accounts()
        return bool(accounts) and all(
            account.fetched >= load.per_task and not account.buffered and not account.in_flight
            for account in accounts.values()
        )

    await until(have, "all messages to come to their end", 90)
    assert all(account.missing == 0 for account in (await progress.accounts()).values())
