"""The driver: load, a seeded schedule of faults, calm, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tests.chaos.broker_faults import BROKER_FAULTS
from tests.chaos.faults import Fault, World
from tests.chaos.footprint import Footprint, footprints, leaks
from tests.chaos.load import Load
from tests.chaos.model_faults import MODEL_FAULTS, resume_all
from tests.chaos.network_faults import NETWORK_FAULTS
from tests.chaos.process_faults import PROCESS_FAULTS
from tests.chaos.progress import Progress
from tests.chaos.server_faults import SERVER_FAULTS
from tests.chaos.sink_faults import SINK_FAULTS
from tests.chaos.site import Site
from tests.chaos.verdict import Verdict, judge, stray_keys

ALL_FAULTS = (
    *PROCESS_FAULTS,
    *SERVER_FAULTS,
    *NETWORK_FAULTS,
    *MODEL_FAULTS,
    *SINK_FAULTS,
    *BROKER_FAULTS,
)

_WAIT_FOR_RECOVERY_S = 60.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class Plan:
    """What a storm is to be.

    Attributes:
        seed: decides which faults come, when, and what they hit.
        faults: how many.
        messages: how many, in all tasks together.
        per_second: how fast they come.
        longest_s: the storm ends after so long, however many faults are left.
        settle_s: how long the system has to finish everything afterwards.
        kinds: the faults to draw from.
    """

    seed: int
    faults: int
    messages: int
    per_second: float
    longest_s: float
    settle_s: float = 90.0
    kinds: Sequence[Fault] = ALL_FAULTS


@dataclass
class Report:
    """What happened.

    Attributes:
        injected: faults by name.
        recoveries: seconds from the end of faults until every task moved on.
        settled_s: how long everything took to be finished after the storm.
        verdict: what became of the messages.
        problems: what else is wrong.
    """

    injected: Counter[str] = field(default_factory=Counter)
    recoveries: list[tuple[float, str]] = field(default_factory=list)
    settled_s: float = 0.0
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = "\n".join(f"  {count:4} {name}" for name, count in sorted(self.injected.items()))
        longest, after = max(self.recoveries, default=(0.0, "nothing"))
        problems = "".join(f"\n  problem: {problem}" for problem in self.problems)
        return (
            f"{self.injected.total()} faults injected:\n{kinds}\n{self.verdict}\n"
            f"longest recovery {longest:.1f} s, after: {after};"
            f" all was finished {self.settled_s:.1f} s after the storm{problems}"
        )

    @property
    def is_clean(self) -> bool:
        return self.verdict.is_clean and not self.problems


class Storm:
    """Runs a plan on a site whose processes are up."""

    def __init__(self, site: Site, plan: Plan, tell: Callable[[str], None] = print) -> None:
        self._site = site
        self._plan = plan
        self._tell = tell
        self._progress = Progress(site)
        self._world = World(site, self._progress, random.Random(plan.seed))
        self._load = Load(site, messages=plan.messages, per_second=plan.per_second)
        self._report = Report()
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Break things under load, let everything be finished, and look at what came out."""
        try:
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._load.run())
                await self._all_have_moved(dict.fromkeys(self._load.published, 0))
                before = footprints(self._site.services)
                await self._break_things()
                self._tell("the storm is over; waiting until all is finished")
                await publishing
            await self._settle()
            await self._conclude(before)
        finally:
            await self._progress.aclose()
        return self._report

    async def _break_things(self) -> None:
        chance = self._world.random
        weights = [fault.weight for fault in self._plan.kinds]
        until = time.monotonic() + self._plan.longest_s
        for number in range(1, self._plan.faults + 1):
            if time.monotonic() > until:
                self._tell(f"no time for more than {number - 1} faults")
                break
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
            self._tell(
                f"{time.monotonic() - self._began:6.1f} s  {number:3}  {' and '.join(words)}"
            )
            if chance.random() < 0.5:
                await self._recover(" and ".join(words))
            else:
                await asyncio.sleep(chance.uniform(0.0, 0.5))

    async def _recover(self, words: str) -> None:
        """Wait until every task has moved on, and note how long that took."""
        started = time.monotonic()
        moved = await self._all_have_moved(await self._ended())
        took_s = time.monotonic() - started
        self._report.recoveries.append((took_s, words))
        if not moved:
            self._report.problems.append(f"no recovery within {took_s:.0f} s after {words}")

    async def _ended(self) -> dict[str, int]:
        while True:
            ended = await self._progress.ended()
            if ended:
                return ended
            await asyncio.sleep(_LOOK_S)

    async def _all_have_moved(self, before: dict[str, int]) -> bool:
        """Whether, in time, messages of every task that has any left came to an end."""
        deadline = time.monotonic() + _WAIT_FOR_RECOVERY_S
        while time.monotonic() < deadline:
            ended = await self._progress.ended()
            if ended and all(
                ended[task] > before[task] or ended[task] >= self._load.per_task for task in ended
            ):
                return True
            await asyncio.sleep(_LOOK_S)
        return False

    # --- the calm after it ---

    async def _settle(self) -> None:
        """Wait until every message has come to its end."""
        started = time.monotonic()
        deadline = started + self._plan.settle_s
        while time.monotonic() < deadline:
            # A task that was paused by the last faults waits for someone to resume it.
            await resume_all(self._world)
            accounts = await self._progress.accounts()
            if accounts and all(
                account.fetched >= self._load.per_task
                and not account.buffered
                and not account.in_flight
                for account in accounts.values()
            ):
                break
            await asyncio.sleep(_LOOK_S)
        self._report.settled_s = time.monotonic() - started

    async def _conclude(self, before: dict[tuple[str, int], Footprint]) -> None:
        report, site = self._report, self._site
        for name, account in (await self._progress.accounts()).items():
            if account.missing or account.buffered or account.in_flight:
                report.problems.append(f"the account of {name} does not balance: {account}")
            if account.fetched != self._load.per_task:
                report.problems.append(
                    f"{name} fetched {account.fetched} of {self._load.per_task} messages"
                )
        for service in site.services:
            if not service.process.is_running:
                report.problems.append(
                    f"{service.name} ended with code {service.process.returncode}"
                )
        report.problems += leaks(before, footprints(site.services))
        await asyncio.to_thread(site.stop)
        report.problems += [
            f"left in Redis: {key}" for key in await stray_keys(self._progress.store)
        ]
        report.verdict = await judge(site, self._progress.store, self._load.published)
