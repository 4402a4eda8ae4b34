"""The event loop of an ingestor ends with the ingestor, whatever hooks do to it."""

from __future__ import annotations

import asyncio

import pytest

from sinfer.ingest.service import IngestLoop


def test_a_hook_cannot_stop_the_loop() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, IngestLoop)
        loop.main = asyncio.current_task()
        for stop in (loop.stop, loop.close):
            with pytest.raises(RuntimeError):
                stop()
        await asyncio.sleep(0)
        return "to its end"

    with asyncio.Runner(loop_factory=IngestLoop) as runner:
        assert runner.run(main()) == "to its end"
