"""A storm in which Redis is emptied again and again, over tasks with ``ack: done``.

Promised: every message that was not dead-lettered has exactly one correct result in every sink.
What was read and not acknowledged is read again and gets into other windows; its result is known by
its message.

Dead letters, the account and pauses are in Redis, so they go with it. Faults that have the model
refuse good messages are left out, since nobody could tell a lost message from a lost dead letter.
"""

from __future__ import annotations

import asyncio
import time

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from tests.chaos.messages import fate
from tests.chaos.model_faults import resume_all
from tests.chaos.redis_wiped import FLUSHALL
from tests.chaos.report import Plan
from tests.chaos.site import Site, TaskPlan
from tests.chaos.storm import ALL_FAULTS, Storm
from tests.chaos.verdict import Outcomes, read_outcomes

ACK_WHEN_DONE = (
    TaskPlan("counted", {"type": "count", "count": 20, "max_wait": "1s"}, durable=True, ack="done"),
    TaskPlan(
        "clocked", {"type": "tumbling", "size": "500ms"}, durable=True, ack="done", keyed=True
    ),
    TaskPlan(
        "timed",
        {
            "type": "tumbling", "size": "500ms", "time": "event", "max_out_of_orderness": "2s",
            "late": "dead_letter", "idle": "12s",
        },
        durable=True,
        ack="done",
    ),
)  # fmt: skip

WIPING_FAULTS = (
    FLUSHALL,
    *(fault for fault in ALL_FAULTS if fault.name not in ("model: refuses", "model: wrong count")),
)

_QUIET_S = 2.0
"""For so long nothing may have been left to acknowledge: what was in flight may be given again."""


async def unacknowledged(site: Site) -> int:
    """Messages of all tasks that were not read or not acknowledged; what they are when ended."""
    client = await site.connect()
    try:
        jetstream = client.jetstream()
        left = 0
        for task in site.tasks:
            info = await jetstream.consumer_info(task.id, f"{task.id}-reader")
            left += (info.num_pending or 0) + (info.num_ack_pending or 0)
        return left
    finally:
        await client.close()


class WipingStorm(Storm):
    """Runs a plan on a site whose tasks all have ``ack: done``."""

    async def _recover(self, words: str) -> None:
        """How far a task is cannot be read from a Redis that was emptied: nothing is measured."""

    async def _settle(self, deadline: float) -> None:
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            await resume_all(self._world)
            try:
                left = await unacknowledged(self._site)
            except (NatsError, JetStreamError, OSError):
                left = 1
            if left:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > _QUIET_S:
                return
            await asyncio.sleep(0.2)
        self._blame("messages are not acknowledged")

    async def _conclude(self) -> None:
        await self._look_for_remains()
        client = await self._site.connect()
        try:
            for task in self._site.tasks:
                found = await read_outcomes(self._site, client, self._progress.store, task)
                self._compare(task, found)
        finally:
            await client.close()

    def _compare(self, task: TaskPlan, found: Outcomes) -> None:
        verdict = self._report.verdict
        verdict.wrong += [f"{task.id}: {text}" for text in found.wrong]
        for number in range(self._load.per_task):
            verdict.messages += 1
            results = (found.sql[number], found.jetstream[number])
            label = f"{task.id} {number} (sql {results[0]}, jetstream {results[1]})"
            if fate(number) != "result":
                if max(results):
                    verdict.wrong.append(f"{label}: has a result")
            elif min(results) == 0:
                verdict.lost.append(label)
            elif max(results) > 1:
                verdict.duplicated.append(label)


def wiping_plan(plan: Plan, part: int) -> Plan:
    """A plan for a part of the faults and messages of another, with FLUSHALL among the faults."""
    return Plan(
        seed=plan.seed,
        faults=plan.faults // part,
        messages=plan.messages // part,
        per_second=plan.per_second,
        longest_s=plan.longest_s / part,
        settle_s=plan.settle_s,
        kinds=WIPING_FAULTS,
    )
