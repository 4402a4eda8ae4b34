"""The tasks that a worker knows: configuration, pipeline, inference client and sinks, kept open."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from sinfer.errors import ConfigError
from sinfer.inference.base import InferenceClient
from sinfer.inference.guard import EndpointGuard
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.registry import find_product
from sinfer.products.task import InferTaskConfig
from sinfer.settings import settings
from sinfer.sinks.base import Sink
from sinfer.windows.ids import Scope
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)


class ReadyTask:
    """One task with its clients open. Use it on one event loop.

    Args:
        store: Redis, for what all workers share about the model's endpoint.
        product: the product.
        config: the task.

    Attributes:
        config: the task.
        pipeline: the product's code, made for it.
        client: asks its model.
        guard: what all workers together grant the model's endpoint.
        sinks: its sinks by name.
        fallback: takes what a sink refuses for good; None when there is none.
        limit: windows that may be under way at once in this process.
        active: windows that are.
        turned_away: partitions that were to be looked at when there was no place for a window.
    """

    def __init__(self, store: Store, product: Product, config: InferTaskConfig) -> None:
        self.product = product.name
        self.config = config
        self.pipeline: InferPipeline[Any, Any] = product.pipeline(config)
        client_type = InferenceClient.class_for(config.inference)
        self.client: InferenceClient = client_type(config.inference)
        endpoint = self.client.endpoint or f"{product.name}/{config.id}"
        self.guard = EndpointGuard(store, endpoint, config.inference)
        self.sinks: dict[str, Sink] = {
            name: Sink.class_for(sink)(sink)
            for name, sink in zip(config.sink_names(), config.sinks, strict=True)
        }
        self.fallback: Sink | None = None
        if config.fallback is not None:
            self.fallback = Sink.class_for(config.fallback)(config.fallback)
        self.limit = config.inference.max_concurrency
        self.active = 0
        self.turned_away: set[Scope] = set()

    @property
    def free(self) -> int:
        """Windows that may still be started; one at most while the endpoint is on trial."""
        limit = 1 if self.guard.on_trial else self.limit
        return max(0, limit - self.active)

    async def aclose(self) -> None:
        """Close client and sinks, all of them even if one fails."""
        sinks = [*self.sinks.values(), *([self.fallback] if self.fallback else [])]
        closing = [self.client.aclose(), *(sink.aclose() for sink in sinks)]
        for problem in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(problem, Exception):
                _log.warning("task %s: closing: %s", self.config.id, problem)


class Catalogue:
    """Finds tasks by name, and asks the task managers again as often as they want."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._products: dict[str, Product] = {}
        self._listed: dict[str, dict[str, InferTaskConfig]] = {}
        self._asked: dict[str, float] = {}
        self._ready: dict[tuple[str, str], ReadyTask] = {}
        self._replaced: list[ReadyTask] = []
        self._lock = asyncio.Lock()

    async def task(self, product_name: str, task_id: str) -> ReadyTask:
        """A task, ready to run.

        Raises:
            ConfigError: the product or the task is not known here.
        """
        async with self._lock:
            config = await self._config(product_name, task_id)
            ready = self._ready.get((product_name, task_id))
            if ready is None or ready.config != config:
                made = ReadyTask(self._store, self._products[product_name], config)
                if ready is not None:
                    self._replaced.append(ready)
                ready = self._ready[product_name, task_id] = made
            for unused in [old for old in self._replaced if not old.active]:
                self._replaced.remove(unused)
                await unused.aclose()
            return ready

    async def _config(self, product_name: str, task_id: str) -> InferTaskConfig:
        product = self._products.get(product_name)
        if product is None:
            product = find_product(product_name, settings().products)
            self._products[product_name] = product
        known = self._listed.get(product_name, {})
        age = time.monotonic() - self._asked.get(product_name, float("-inf"))
        if age >= product.tasks.refresh or task_id not in known:
            try:
                known = (await product.list_tasks()).tasks
            except Exception as error:  # a product's own code, or its database
                _log.error("product %s: its tasks cannot be listed: %s", product_name, error)
            self._listed[product_name] = known
            self._asked[product_name] = time.monotonic()
        if task_id not in known:
            raise ConfigError(f"product {product_name!r} has no valid task {task_id!r}")
        return known[task_id]

    async def aclose(self) -> None:
        """Close every task."""
        for ready in (*self._ready.values(), *self._replaced):
            await ready.aclose()
        self._ready.clear()
        self._replaced.clear()
