"""The connection to the broker is lost while workers have messages in hand."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.progress import Progress
from tests.chaos.site import EVERY_WAY, Site
from tests.e2e.harness import wait_for


async def test_workers_outlive_a_broker_that_goes_away_while_they_are_busy(tmp_path: Path) -> None:
    with Site(tmp_path, tasks=EVERY_WAY[:1], ingestors=1, workers=1, beats=1) as site:
        await site.make_streams()
        await asyncio.to_thread(site.start)
        [worker] = [service for service in site.services if service.name == "worker1"]
        load = Load(site, messages=2000, per_second=400)
        publishing = asyncio.create_task(load.run())
        site.model.order({"mode": "ok", "delay_ms": 1500, "count": None})
        await wait_for(lambda: site.model.stats()["concurrent"] > 0, "the worker to be busy")
        for _ in range(4):
            site.proxies["broker"].change("refusing")
            await asyncio.sleep(0.5)
            site.proxies["broker"].change("clear")
            await asyncio.sleep(1.5)
        site.model.order()
        await publishing
        progress = Progress(site)
        try:

            async def is_through() -> bool:
                ended = await progress.ended()
                return ended["position"] == 2000

            await wait_for(is_through, "all messages to come to their end", 60)
        finally:
            await progress.aclose()
        assert worker.process.is_running, worker.process.tail(60)
        assert "Unrecoverable" not in worker.process.log.read_text()
