"""Follows the task manager and the other ingestors, and keeps this one's partitions running."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
import uuid
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

from nats.aio.client import Client

from sinfer.errors import (
    ConfigError,
    SinferError,
    StaleTokenError,
    StoreFullError,
    UnavailableError,
)
from sinfer.hints import HintSender
from sinfer.ingest.membership import SIGN_OF_LIFE_S, Membership, preferred
from sinfer.ingest.partition import PartitionIngest
from sinfer.ingest.pressure import MemoryPressure
from sinfer.nats_connection import connect
from sinfer.products.product import Product, TaskList
from sinfer.products.task import InferTaskConfig
from sinfer.settings import settings
from sinfer.windows.ids import Scope
from sinfer.windows.pauses import PauseBoard
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_LONGEST_OUTAGE_BACKOFF_S = 3.0
"""Servers come back by themselves, and then nothing should wait for long."""


@dataclass(slots=True)
class _Running:
    """A partition that this ingestor runs, or tries to.

    Attributes:
        config: the task as it was when the partition was started.
        runner: keeps it running.
        ingest: the partition at work; None before it is made and between two tries.
        stopping: whether it is to be given back.
    """

    config: InferTaskConfig
    runner: asyncio.Task[None] | None = None
    ingest: PartitionIngest | None = None
    stopping: bool = False

    def stop(self) -> None:
        """Have it store what is in hand and give the partition back."""
        self.stopping = True
        if self.ingest is not None:
            self.ingest.stop()
        elif self.runner is not None:
            self.runner.cancel()


class Supervisor:
    """One ingestor of one product.

    Args:
        store: the window store.
        product: the product.
        hints: who tells the workers.
        only_task: id of the one task to ingest; all by default.
    """

    def __init__(
        self, store: Store, product: Product, hints: HintSender, only_task: str | None = None
    ) -> None:
        self._store = store
        self._product = product
        self._hints = hints
        self._only_task = only_task
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._membership = Membership(store, product.name, self.name)
        self._pauses = PauseBoard(store)
        self._memory = MemoryPressure(store)
        self._running: dict[Scope, _Running] = {}
        self._connections: dict[tuple[str, ...], Client] = {}
        self._connecting: defaultdict[tuple[str, ...], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopping = asyncio.Event()
        self._tasks: dict[str, InferTaskConfig] = {}
        self._problems: dict[str, str] = {}
        self._tasks_are_known = False
        self._asked = float("-inf")
        self._has_outage = False

    def stop(self) -> None:
        """Store what is in hand, give all partitions back and return from ``run``."""
        self._stopping.set()

    async def run(self) -> None:
        """Ingest until told to stop.

        Raises:
            ConfigError: ``only_task`` names no valid task.
        """
        _log.info("ingestor %s of product %s", self.name, self._product.name)
        try:
            while not self._stopping.is_set():
                await self._refresh()
                await self._share_out()
                with suppress(TimeoutError):
                    async with asyncio.timeout(SIGN_OF_LIFE_S):
                        await self._stopping.wait()
        finally:
            await self._leave()

    # --- what there is to do ---

    async def _refresh(self) -> None:
        """Ask the task manager; while it cannot answer, the last known list stays in force."""
        if time.monotonic() - self._asked < self._product.tasks.refresh:
            return
        try:
            listed = await self._product.list_tasks()
        except Exception as error:  # a product's own code, or its database
            _log.error(
                "product %s: its tasks cannot be listed (%s: %s); the last known stay in force",
                self._product.name, type(error).__name__, error,
            )  # fmt: skip
            self._asked = time.monotonic()
            return
        self._asked = time.monotonic()
        self._report(listed)
        self._tasks = listed.tasks
        if self._only_task is not None:
            if self._only_task not in listed.tasks and not self._tasks_are_known:
                raise ConfigError(
                    listed.problems.get(self._only_task)
                    or f"product {self._product.name!r} has no task {self._only_task!r}"
                    f" (it has: {', '.join(sorted(listed.tasks)) or 'none'})"
                )
            self._tasks = {k: v for k, v in listed.tasks.items() if k == self._only_task}
        self._tasks_are_known = True

    def _report(self, listed: TaskList) -> None:
        for label, problem in listed.problems.items():
            if self._problems.get(label) != problem:
                _log.error("task skipped until it changes: %s", problem)
        self._problems = listed.problems

    async def _share_out(self) -> None:
        """Start the partitions that are this ingestor's share, stop those that are not."""
        try:
            members = await self._membership.beat()
            await self._pauses.refresh()
            await self._memory.refresh()
        except (UnavailableError, StoreFullError) as error:
            if not self._has_outage:
                _log.warning("%s; trying again", error)
            self._has_outage = True
            return
        if self._has_outage:
            _log.info("Redis takes signs of life again")
        self._has_outage = False
        wanted = {
            scope: task
            for task in self._tasks.values()
            for subject in task.source.partition_subjects
            if preferred(scope := Scope(self._product.name, task.id, subject), members) == self.name
        }
        for scope, running in list(self._running.items()):
            if running.runner is None or running.runner.done():
                del self._running[scope]
            elif wanted.get(scope) != running.config:
                running.stop()
        for scope, task in wanted.items():
            if scope not in self._running:
                running = self._running[scope] = _Running(task)
                running.runner = asyncio.create_task(
                    self._keep_running(scope, running), name=str(scope)
                )

    # --- one partition ---

    async def _keep_running(self, scope: Scope, running: _Running) -> None:
        """Run one partition; when it fails, run it again with backoff. Others never notice."""
        backoff = _FIRST_BACKOFF_S
        complaint = ""
        while not running.stopping:
            started = time.monotonic()
            longest = _LONGEST_BACKOFF_S
            try:
                await self._run_once(scope, running)
                continue
            except StaleTokenError as error:
                _log.warning("%s", error)
                continue
            except UnavailableError as error:
                text, trace = str(error), None
                longest = _LONGEST_OUTAGE_BACKOFF_S
            except SinferError as error:
                text, trace = str(error), None
            except Exception as error:  # a product's own code
                text, trace = f"{type(error).__name__}: {error}", error
            if text != complaint:
                _log.error("%s: %s; trying again", scope, text, exc_info=trace)
            complaint = text
            if time.monotonic() - started > _LONGEST_BACKOFF_S:
                backoff = _FIRST_BACKOFF_S
            backoff = min(backoff, longest)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff *= 2

    async def _run_once(self, scope: Scope, running: _Running) -> None:
        task = running.config
        connection = await self._connection(task.source.servers or settings().nats_servers)
        pipeline = self._product.pipeline(task)
        ingest = PartitionIngest(
            self._store,
            connection,
            scope,
            pipeline,
            self._hints,
            self._pauses,
            self._memory,
            self.name,
        )
        running.ingest = ingest
        try:
            await ingest.run()
        finally:
            running.ingest = None

    async def _connection(self, servers: list[str]) -> Client:
        """One connection for all partitions that name the same servers."""
        key = tuple(servers)
        async with self._connecting[key]:
            known = self._connections.get(key)
            if known is None or known.is_closed:
                known = await connect(servers, name=f"sinfer-ingest-{self._product.name}")
                self._connections[key] = known
        return known

    # --- the end ---

    async def _leave(self) -> None:
        for running in self._running.values():
            running.stop()
        runners = [running.runner for running in self._running.values() if running.runner]
        if runners:
            _, late = await asyncio.wait(runners, timeout=20)
            for runner in late:
                runner.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(UnavailableError):
            await self._membership.leave()
        for connection in self._connections.values():
            await connection.close()
        _log.info("ingestor %s left", self.name)
