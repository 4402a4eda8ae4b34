"""Follows the task manager and the other ingestors, and keeps this one's partitions running."""

from __future__ import annotations

import asyncio
import logging
import operator
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.errors import (
    AccessError,
    ConfigError,
    HookError,
    SinferError,
    StaleTokenError,
    StoreError,
    UnavailableError,
)
from sinfer.hooks.call import Hook, describe
from sinfer.ingest.assignment import Shares
from sinfer.ingest.backpressure import MemoryPressure
from sinfer.ingest.connections import Connections
from sinfer.ingest.ingestor import Ingestor
from sinfer.ingest.leases import LeaseKeeper
from sinfer.ingest.partition import PartitionIngest
from sinfer.ingest.pipelines import PipelineMaker
from sinfer.ingest.retirement import Retirement
from sinfer.ingest.watchdog import Lifeline
from sinfer.liveness.overdue_windows import Overdue
from sinfer.logging.throttled import Throttled
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.products.watch import TaskFollower
from sinfer.source.pull import PullTiming
from sinfer.store.boards.ingestors import SIGN_OF_LIFE_S, Member, Membership
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.boards.task_reports import TaskReport, TaskReporter
from sinfer.store.connection import Store
from sinfer.store.hints import Hints
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 30.0
_LONGEST_OUTAGE_BACKOFF_S = 3.0
"""Servers come back by themselves, and then nothing should wait for long."""

_GRACE_REFRESHES = 3
"""How many more lists without a task it takes until the task is forgotten."""

_ORPHANS_S = 5.0
"""How often stored partitions are looked through for those of removed tasks."""


@dataclass(slots=True)
class _Running:
    """A partition that this ingestor runs, or tries to.

    Attributes:
        config: the task as it was when the partition was started; None when it is being retired.
        runner: keeps it running.
        work: the partition at work; None before it is made and between two tries.
        stopping: whether it is to be given back.
        problem: why it does not move; empty when it does, or nothing says that it does not.
    """

    config: InferTaskConfig | None
    runner: asyncio.Task[None] | None = None
    work: PartitionIngest | Retirement | None = None
    stopping: bool = False
    problem: str = ""

    def stop(self) -> None:
        """Have it store what is in hand and give the partition back."""
        self.stopping = True
        if self.work is not None:
            self.work.stop()
        elif self.runner is not None:
            self.runner.cancel()


def _differ(one: InferTaskConfig | None, other: InferTaskConfig | None) -> bool:
    """Whether a task has changed; where a product's settings cannot be compared, their text can."""
    if one is None or other is None or one is other:
        return one is not other
    try:
        return bool(Hook("tasks", "task", operator.ne)(one, other))
    except HookError:
        return _text_of(one) != _text_of(other)


def _text_of(task: InferTaskConfig) -> str:
    try:
        return str(Hook("tasks", "task", task.model_dump_json)())
    except HookError:
        return ""


class Supervisor:
    """One ingestor of one product.

    Args:
        store: the window store.
        product: the product.
        hints: who tells the workers.
        only_task: id of the one task to ingest; all by default.
        is_process: whether it has the process for itself, and may end it.
    """

    def __init__(
        self,
        store: Store,
        product: Product,
        hints: Hints,
        only_task: str | None = None,
        *,
        is_process: bool = False,
    ) -> None:
        self._store = store
        self._product = product
        self._only_task = only_task
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        me = Member(self.name, only_task)
        self._membership = Membership(store, product.name, me)
        self._reporter = TaskReporter(store, product.name, me)
        self._shares = Shares(product.name, me)
        self._schedule = Schedule(store)
        apart = store.another()
        leases = LeaseKeeper(apart)
        self._lifeline = Lifeline(
            apart,
            leases,
            Membership(apart, product.name, me),
            TaskReporter(apart, product.name, me, is_lifeline=True),
            is_process=is_process,
        )
        self._ingestor = Ingestor(
            store=store,
            hints=hints,
            pauses=PauseBoard(store),
            memory=MemoryPressure(store),
            owner=self.name,
            leases=leases,
        )
        self._troubles = self._ingestor.troubles
        self._connections = Connections(
            f"sinfer-ingest-{product.name}", self._wake_all, self._troubles
        )
        self._maker = PipelineMaker(store, product)
        self._running: dict[Scope, _Running] = {}
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._follower = TaskFollower(product)
        self._tasks: dict[str, InferTaskConfig] = {}
        self._looked_for_orphans_s = float("-inf")
        self._signals: object = None
        self._outage = Throttled(_log)
        self._overdue = Overdue()
        self._was_up = False

    def stop(self) -> None:
        """Store what is in hand, give all partitions back and return from ``run``."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Ingest until told to stop.

        Raises:
            ConfigError: ``only_task`` names no valid task.
            AccessError: Redis does not let it in from the start.
        """
        _log.info("ingestor %s of product %s", self.name, self._product.name)
        following = asyncio.create_task(self._follow())
        self._lifeline.start()
        try:
            while not self._stopping.is_set():
                self._changed.clear()
                await self._share_out()
                if following.done():
                    following.result()
                await wait_for_event(self._changed, SIGN_OF_LIFE_S)
        finally:
            await end(following)
            await self._leave()
            await self._lifeline.aclose()

    # --- what there is to do ---

    async def _follow(self) -> None:
        """Keep the tasks up to date, beside all else: a task manager may take its time.

        Raises:
            ConfigError: ``only_task`` names no valid task.
        """
        while True:
            was_known = self._follower.is_known
            if await self._follower.refresh():
                self._take_tasks(is_first=not was_known)
                self._changed.set()
            await asyncio.sleep(self._follower.wait_s)

    def _take_tasks(self, *, is_first: bool) -> None:
        tasks = self._follower.tasks
        only = self._only_task
        if only is not None:
            if is_first and self._follower.is_known and only not in tasks:
                self._changed.set()
                raise ConfigError(
                    self._follower.problems.get(only)
                    or f"product {self._product.name!r} has no task {only!r}"
                    f" (it has: {', '.join(sorted(tasks)) or 'none'})"
                )
            tasks = {task_id: task for task_id, task in tasks.items() if task_id == only}
        self._tasks = tasks
        self._looked_for_orphans_s = float("-inf")

    async def _share_out(self) -> None:
        """Start the partitions that are this ingestor's share, stop those that are not."""
        shared = self._ingestor
        try:
            members = await self._membership.beat()
            follower = self._follower
            self._note_progress()
            stopped = {str(s): r.problem for s, r in self._running.items() if r.problem}
            lasting = self._lasting()
            report = TaskReport.of(follower.outage, follower.problems, stopped, lasting)
            await self._reporter.tell(report)
            await shared.pauses.refresh()
            await shared.memory.refresh()
            await shared.durability.look_for_replicas()
            mine = {scope: running.config for scope, running in self._running.items()}
            await shared.budgets.refresh(mine, shared.memory.used, shared.memory.limit)
            await self._overdue.look(self._store, list(self._running))
            wanted: dict[Scope, InferTaskConfig | None] = {**self._shares.of(self._tasks, members)}
            for scope in await self._orphans():
                wanted[scope] = None
        except (UnavailableError, StoreError) as error:
            if isinstance(error, AccessError) and not self._was_up:
                raise
            is_lasting = isinstance(error, AccessError | StoreError)
            level = logging.ERROR if is_lasting else logging.WARNING
            self._outage.tell(f"{error}; trying again", level=level)
            return
        self._was_up = True
        self._outage.over("Redis takes signs of life again")
        self._pass_on_signals()
        for scope, running in list(self._running.items()):
            if running.runner is None or running.runner.done():
                del self._running[scope]
            elif scope not in wanted or _differ(wanted[scope], running.config):
                running.stop()
        self._set_timing(len(wanted))
        for scope, task in wanted.items():
            if scope not in self._running:
                self._start(scope, task)

    def _start(self, scope: Scope, task: InferTaskConfig | None) -> None:
        running = self._running[scope] = _Running(task)
        once = self._retire_once if task is None else self._ingest_once
        running.runner = asyncio.create_task(
            self._keep_running(scope, running, once), name=str(scope)
        )
        running.runner.add_done_callback(lambda _: self._changed.set())

    def _set_timing(self, partitions: int) -> None:
        """Many partitions speak up less often each, so that all together cost the same."""
        usual = PullTiming()
        heartbeat_s = max(usual.heartbeat_s, min(15.0, partitions / 100))
        self._ingestor.timing = PullTiming(
            expires_s=max(usual.expires_s, 4 * heartbeat_s),
            heartbeat_s=heartbeat_s,
            look_s=max(usual.look_s, min(heartbeat_s, partitions / 100)),
        )

    async def _orphans(self) -> list[Scope]:
        """Partitions of tasks that are gone: those being retired, and from time to time new ones.

        While the list of tasks is not known for sure, none is gone.
        """
        retiring = [
            scope
            for scope, running in self._running.items()
            if running.config is None and running.runner and not running.runner.done()
        ]
        if not self._follower.is_complete:
            return []
        if time.monotonic() - self._looked_for_orphans_s < _ORPHANS_S:
            return self._shares.orphans(retiring)
        stored = await self._schedule.partitions()
        known = [
            scope
            for scope in self._shares.orphans(stored)
            if scope.task not in self._follower.problems and self._only_task in (None, scope.task)
        ]
        self._looked_for_orphans_s = time.monotonic()
        return await self._schedule.with_state(known)

    # --- signals for all partitions ---

    def _pass_on_signals(self) -> None:
        """Wake the partitions when something is paused or resumed, or Redis' memory fills."""
        shared = self._ingestor
        signals = (shared.pauses.all(), shared.memory.changes, shared.budgets.changes)
        if signals != self._signals:
            self._signals = signals
            self._wake_all()

    def _wake_all(self) -> None:
        for running in self._running.values():
            if running.work is not None:
                running.work.wake()

    # --- one partition ---

    async def _keep_running(
        self,
        scope: Scope,
        running: _Running,
        once: Callable[[Scope, _Running], Coroutine[Any, Any, None]],
    ) -> None:
        """Run one partition; when it fails, run it again with backoff. Others never notice."""
        backoff = _FIRST_BACKOFF_S
        failing = Throttled(_log)
        me = asyncio.current_task()
        while not running.stopping:
            started = time.monotonic()
            longest = _LONGEST_BACKOFF_S
            level = logging.ERROR
            trace: BaseException | None = None
            try:
                await once(scope, running)
                running.problem = ""
                if running.config is None:
                    return
                continue
            except UnavailableError as error:
                text = str(error)
                longest = _LONGEST_OUTAGE_BACKOFF_S
            except SinferError as error:
                text = str(error)
                if isinstance(error, StaleTokenError):
                    level, longest = logging.WARNING, _LONGEST_OUTAGE_BACKOFF_S
            except BaseException as error:  # whatever it is, the other partitions must not notice
                if isinstance(error, asyncio.CancelledError) and me is not None and me.cancelling():
                    raise
                text, trace = describe(error), error
            if running.stopping:
                return
            failing.tell(f"{scope}: {text}; trying again", level=level, error=trace)
            if time.monotonic() - started > _LONGEST_BACKOFF_S:
                backoff = _FIRST_BACKOFF_S
            running.problem = text
            backoff = min(backoff, longest)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff *= 2

    def _lasting(self) -> dict[str, list[str]]:
        """What troubles this ingestor and its partitions for a while."""
        shared, lasting = self._ingestor, self._troubles.all()
        own = [shared.hints.problem, *shared.durability.problems, *lasting.get("", [])]
        return {**lasting, "": own} if any(own) else lasting

    def _note_progress(self) -> None:
        """Partitions that store messages again, or have been there for a while, are all right."""
        for running in self._running.values():
            work = running.work
            if running.problem and isinstance(work, PartitionIngest) and work.is_well:
                running.problem = ""

    async def _ingest_once(self, scope: Scope, running: _Running) -> None:
        task = running.config
        assert task is not None
        connection = await self._connections.to(task.source.place)
        pipeline = await self._maker.make(task)
        running.work = work = PartitionIngest(self._ingestor, connection, scope, pipeline)
        try:
            await work.run()
        finally:
            running.work = None

    async def _retire_once(self, scope: Scope, running: _Running) -> None:
        grace_s = _GRACE_REFRESHES * self._product.tasks.refresh
        has_task = scope.task in self._follower.tasks
        running.work = work = Retirement(self._ingestor, scope, grace_s=grace_s, has_task=has_task)
        try:
            await work.run()
        finally:
            running.work = None

    # --- the end ---

    async def _leave(self) -> None:
        for running in self._running.values():
            running.stop()
        runners = [running.runner for running in self._running.values() if running.runner]
        if runners:
            _, late = await asyncio.wait(runners, timeout=20)
            await end(*late)
        self._ingestor.announcements.tell()
        with suppress(UnavailableError, StoreError):
            await self._reporter.tell(TaskReport())
            await self._membership.leave()
        await self._connections.aclose()
        await self._product.close_tasks()
        _log.info("ingestor %s left", self.name)
