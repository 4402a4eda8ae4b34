"""Making a product's pipelines; where that may end the process, it is tried elsewhere first."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import Any

from sinfer.aio.own_thread import OwnThread
from sinfer.ingest.isolation import CarefulPreparer
from sinfer.ingest.work_in_hand import SUSPECTED
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.store.boards.pipeline_counts import PipelineCounts
from sinfer.store.connection import Store

_log = logging.getLogger(__name__)


class PipelineMaker:
    """Makes pipelines. The first of each task counts in the store while it is made: a count that is
    left there is that of a process which ended meanwhile.

    Args:
        store: the window store.
        product: the product.
    """

    def __init__(self, store: Store, product: Product) -> None:
        self._product = product
        self._counts = PipelineCounts(store, product.name)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._threads: dict[str, OwnThread[InferPipeline[Any, Any]]] = {}
        self._made: set[str] = set()

    async def make(self, task: InferTaskConfig) -> InferPipeline[Any, Any]:
        """The product's code, made for a task.

        Raises:
            ConfigError: it cannot be made.
            CarefulError: that has ended processes, and still does.
            UnavailableError, StoreFullError: Redis does not answer, or takes nothing.
        """
        async with self._locks[task.id]:
            if task.id in self._made:
                return await self._make(task)
            if await self._counts.begin(task.id) > SUSPECTED:
                await self._try_out(task)
            try:
                pipeline = await self._make(task)
            finally:
                await self._counts.end(task.id)
            self._made.add(task.id)
            return pipeline

    async def _make(self, task: InferTaskConfig) -> InferPipeline[Any, Any]:
        """Make it in a thread: it may take its time, and other partitions go on."""
        thread = self._threads.setdefault(task.id, OwnThread(f"pipeline of {task.id}"))
        pipeline = await thread.call(lambda: self._product.make_pipeline(task))
        if pipeline.task != task:  # that was under way since before the task changed
            pipeline = await thread.call(lambda: self._product.make_pipeline(task))
        return pipeline

    async def _try_out(self, task: InferTaskConfig) -> None:
        name = f"{self._product.name}/{task.id}"
        _log.warning("%s: making its pipeline may have ended processes; tried apart first", name)
        apart = CarefulPreparer(self._product.pipeline, task, name)
        try:
            await apart.try_out()
        finally:
            await apart.release()
