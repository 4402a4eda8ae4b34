"""The driver: load, a seeded schedule of faults, calm, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

from sinfer.aio.cancel import end
from sinfer.operations.audit import audit
from sinfer.operations.deep_audit import DeepAudit
from tests.chaos.broker_faults import BROKER_FAULTS
from tests.chaos.clock_faults import CLOCK_FAULTS, REDIS_CLOCK_FAULTS
from tests.chaos.faults import World
from tests.chaos.footprint import Footprint, footprints, leaks
from tests.chaos.hostile_faults import HOSTILE_FAULTS
from tests.chaos.load import Load
from tests.chaos.model_faults import MODEL_FAULTS, resume_all
from tests.chaos.network_faults import NETWORK_FAULTS
from tests.chaos.operator_faults import OPERATOR_FAULTS
from tests.chaos.process_faults import PROCESS_FAULTS
from tests.chaos.product import ChaosPipeline
from tests.chaos.progress import Progress
from tests.chaos.recovery import LONGEST_RECOVERY_S, recover
from tests.chaos.report import Plan, Report
from tests.chaos.server_faults import SERVER_FAULTS
from tests.chaos.sink_faults import SINK_FAULTS
from tests.chaos.site import Site
from tests.chaos.verdict import judge, stray_broker_keys, stray_consumers, stray_keys
from tests.support.until import until

ALL_FAULTS = (
    *PROCESS_FAULTS,
    *SERVER_FAULTS,
    *NETWORK_FAULTS,
    *MODEL_FAULTS,
    *SINK_FAULTS,
    *BROKER_FAULTS,
    *CLOCK_FAULTS,
    *OPERATOR_FAULTS,
    *REDIS_CLOCK_FAULTS,
    *HOSTILE_FAULTS,
)

SHORT_FAULTS = tuple(fault for fault in ALL_FAULTS if not fault.is_slow)
"""Without those after which a short storm would have to wait for longer than it lasts."""

_LOOK_S = 0.1
_RESUME_S = 0.5
_RESTART_S = 1.0
_MOST_DEATHS = 8
"""So many processes may end for one message that kills: two ingestors of each of two products,
twice."""
_FIRST_RESULTS_S = 60.0
_FAULTS_BETWEEN_LOOKS = 10
"""After so many faults, memory and open files are looked at."""


class Storm:
    """Runs a plan on a site whose processes are up."""

    def __init__(self, site: Site, plan: Plan, tell: Callable[[str], None] = print) -> None:
        self._site = site
        self._plan = plan
        self._tell = tell
        self._progress = Progress(site)
        self._load = Load(site, messages=plan.messages, per_second=plan.per_second)
        self._world = World(site, self._progress, self._load, random.Random(plan.seed))
        self._report = Report()
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Break things under load, let everything be finished, and look at what came out."""
        supervising = asyncio.create_task(self._supervise())
        try:
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._load.run())
                await self._see_results()
                before = footprints(self._site.services)
                await self._break_things(before)
                self._tell("the storm is over; waiting until all is finished")
                await publishing
            started = time.monotonic()
            await self._settle(started + self._plan.settle_s)
            self._report.settled_s = time.monotonic() - started
            self._look_for_leaks(before)
            await end(supervising)
            self._look_for_restarts()
            await self._conclude()
        finally:
            await end(supervising)
            await self._progress.aclose()
        return self._report

    async def _supervise(self) -> None:
        """Start processes again that ended by themselves, as a supervisor does in production."""
        while True:
            self._site.keep_up()
            await asyncio.sleep(_RESTART_S)

    def _look_for_restarts(self) -> None:
        """Only a hostile hook may end a process, and only until its message is known."""
        kills = sum(
            act in ("ends", "exits", "segfaults")
            for poisons in self._site.poisons.values()
            for act in poisons.values()
        )
        restarts = self._site.restarts
        if restarts.total() > _MOST_DEATHS * kills:
            self._blame(f"{kills} messages that kill ended processes so often: {dict(restarts)}")

    def _blame(self, problem: str) -> None:
        if problem not in self._report.problems:
            self._report.problems.append(problem)

    async def _see_results(self) -> None:
        """Wait until messages of every task came to an end: before that, nothing is under load."""

        async def have() -> bool:
            ended = await self._progress.ended()
            return bool(ended) and min(ended.values()) > 0

        await until(have, "the first results of every task", _FIRST_RESULTS_S)

    async def _break_things(self, before: dict[tuple[str, int], Footprint]) -> None:
        chance = self._world.random
        weights = [fault.weight for fault in self._plan.kinds]
        until = time.monotonic() + self._plan.longest_s
        number = 0
        while self._report.injected.total() < self._plan.faults:
            if time.monotonic() > until:
                self._tell(f"no time for more than {self._report.injected.total()} faults")
                break
            number += 1
            # Some come in pairs, which overlap.
            several = 2 if chance.random() < 0.2 else 1
            chosen = chance.choices(self._plan.kinds, weights, k=several)
            words = []
            async with AsyncExitStack() as stack:
                for fault in chosen:
                    hit = await stack.enter_async_context(fault.breaks(self._world))
                    self._report.injected[fault.name] += 1
                    words.append(f"{fault.name} {hit}".strip())
                    await asyncio.sleep(chance.uniform(fault.least_s, fault.most_s))
            since = f"{time.monotonic() - self._began:6.1f} s"
            total = self._report.injected.total()
            self._tell(f"{since} {total:4}  {' and '.join(words)}")
            is_timed = all(fault.is_timed for fault in chosen)
            # What is not timed takes its time while the storm goes on.
            if chance.random() < 0.5 and is_timed:
                await self._recover(" and ".join(words))
            else:
                await asyncio.sleep(chance.uniform(0.0, 0.5))
            if number % _FAULTS_BETWEEN_LOOKS == 0:
                self._look_for_leaks(before)

    async def _recover(self, words: str) -> None:
        """Wait until the fault is behind all tasks, and note how long that took."""
        resuming = asyncio.create_task(self._keep_resuming())
        try:
            recovery = await recover(self._progress, self._load.published, self._load.per_task)
        finally:
            await end(resuming)
        moved_s, caught_up_s = recovery.moved_s, recovery.caught_up_s
        self._report.recoveries.append((recovery, words))
        if recovery.missing:
            self._blame(f"no recovery in {caught_up_s:.0f} s after {words}: {recovery.missing}")
        elif self._plan.is_timed and moved_s > LONGEST_RECOVERY_S:
            self._blame(f"{moved_s:.1f} s to move again after {words}")
        self._tell(f"{'':8} moved again in {moved_s:.1f} s, caught up in {caught_up_s:.1f} s")

    async def _keep_resuming(self) -> None:
        """A task that a fault of the model paused waits for someone who has put that right."""
        while True:
            await resume_all(self._world)
            await asyncio.sleep(_RESUME_S)

    def _look_for_leaks(self, before: dict[tuple[str, int], Footprint]) -> None:
        report, now = self._report, footprints(self._site.services)
        for problem in leaks(before, now):
            self._blame(problem)
        report.most_mib = max(report.most_mib, *(found.mib for found in now.values()), 0)
        report.most_files = max(report.most_files, *(found.files for found in now.values()), 0)

    # --- the calm after it ---

    async def _settle(self, deadline: float) -> None:
        """Wait until every message has come to its end."""
        while time.monotonic() < deadline:
            # A task that was paused by the last faults waits for someone to resume it.
            await resume_all(self._world)
            per_task = {
                task.id: self._load.per_task + len(self._site.poisons[task.id])
                for task in self._site.tasks
            }
            if await self._progress.all_ended(per_task):
                break
            await asyncio.sleep(_LOOK_S)

    async def _conclude(self) -> None:
        """Look at what came out."""
        for name, account in (await self._progress.accounts()).items():
            expected = self._load.per_task + len(self._site.poisons[name])
            is_right = account.fetched == expected
            if self._site.rerun[name]:  # what is read again counts as fetched again
                is_right = account.fetched >= expected
            if not is_right:
                self._blame(f"{name} fetched {account.fetched} of {expected} messages")
        await self._look_deep()
        await self._look_for_remains()
        self._report.verdict = await judge(self._site, self._progress.store, self._load.published)

    async def _look_deep(self) -> None:
        """The system's own judgement, message by message."""
        site = self._site
        client = await site.connect()
        try:
            for task in site.tasks:
                pipeline = ChaosPipeline(site.config(task))
                audited = await DeepAudit(self._progress.store, client, task.scope, pipeline).run()
                for finding in audited.findings[:10]:
                    self._blame(f"audit --deep of {task.id}: {finding}")
        finally:
            await client.close()

    async def _look_for_remains(self) -> None:
        """Stop all processes; no message may be under way, and nothing be left that need not be."""
        site, store = self._site, self._progress.store
        for found in await audit(store, site.scopes):
            account = found.account
            if not found.is_right or account.buffered or account.in_flight:
                self._blame(f"{found.scope} does not balance: {account} {found.stranded}")
        await asyncio.to_thread(site.stop)
        for key in await stray_keys(store):
            self._blame(f"left in Redis: {key}")
        for key in await stray_broker_keys(self._progress.broker):
            self._blame(f"left in the broker: {key}")
        for consumer in await stray_consumers(site):
            self._blame(f"left in NATS: {consumer}")
