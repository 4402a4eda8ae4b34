"""The Celery application of celery-batches: a window is whatever a flush brings, usually 100."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from celery import Celery
from celery_batches import Batches

from benchmarks.scenarios.product import TIMED, WARM, make_task
from benchmarks.scenarios.workload import WINDOW
from benchmarks.systems.windows import WindowWork
from sinfer.settings import settings
from sinfer.types.message import Message

_FLUSH_S = 15.0
"""Longer than a run lasts, so that windows are full."""

app = Celery("batches", broker=settings().celery_broker_url)
app.conf.update(
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=4 * WINDOW,
    broker_connection_retry_on_startup=True,
)


class _Worker:
    """The clients of one worker process, on an event loop of its own."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._work: dict[str, WindowWork] = {}

    def process(self, task_id: str, window_id: str, texts: list[str]) -> None:
        """Take one window to its results."""
        self._runner.run(self._process(task_id, window_id, texts))

    async def _process(self, task_id: str, window_id: str, texts: list[str]) -> None:
        if task_id not in self._work:
            self._work[task_id] = WindowWork(make_task(task_id, WINDOW))
        work = self._work[task_id]
        made = [work.pipeline.preprocess(Message(text.encode())) for text in texts]
        await work.process(window_id, [reading for reading in made if reading is not None])


_workers: dict[int, _Worker] = {}


def _process(task_id: str, requests: list[Any]) -> None:
    worker = _workers.setdefault(os.getpid(), _Worker())
    worker.process(task_id, requests[0].id, [request.args[0] for request in requests])


@app.task(base=Batches, flush_every=WINDOW, flush_interval=_FLUSH_S, name="batches.warm")
def warm(requests: list[Any]) -> None:
    """A window of the warm-up."""
    _process(WARM, requests)


@app.task(base=Batches, flush_every=WINDOW, flush_interval=_FLUSH_S, name="batches.timed")
def timed(requests: list[Any]) -> None:
    """A window of the timed part."""
    _process(TIMED, requests)
