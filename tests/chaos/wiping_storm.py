"""A storm in which Redis is emptied again and again, over tasks with ``ack: done``.

Promised: every message has exactly one correct result in every sink, or one dead letter in the
stream that dead letters are copied to. What was read and not acknowledged is read again and gets
into other windows; result and dead letter are known by the message.

The account and pauses are in Redis, so they go with it. Faults that have the model refuse good
messages are left out: a message whose result was written just before may die the second time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from tests.chaos.hostile_faults import HOSTILE_FAULTS
from tests.chaos.messages import fate
from tests.chaos.model_faults import resume_all
from tests.chaos.redis_wiped import FLUSHALL
from tests.chaos.report import Plan
from tests.chaos.site import EVENT_TIME, Site, TaskPlan
from tests.chaos.storm import ALL_FAULTS, Storm
from tests.chaos.verdict import Outcomes, Verdict, read_outcomes


def _when_done(name: str, window: Mapping[str, Any], *, keyed: bool = False) -> TaskPlan:
    return TaskPlan(name, window, durable=True, ack="done", keyed=keyed, copies=True)


ACK_WHEN_DONE = (
    _when_done("counted", {"type": "count", "count": 20, "max_wait": "1s"}),
    _when_done("clocked", {"type": "tumbling", "size": "500ms"}, keyed=True),
    _when_done("timed", EVENT_TIME),
)

_LEFT_OUT = ("model: refuses", "model: wrong count", "redrive", "rerun")
"""What the docstring above says; and what is redriven or run again may be emptied in between. What
hostile messages were found to do is forgotten with Redis, so that they are left out as well."""

WIPING_FAULTS = (
    FLUSHALL,
    *(fault for fault in ALL_FAULTS if fault.name not in _LEFT_OUT and fault not in HOSTILE_FAULTS),
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
                compare(task, found, self._load.per_task, self._report.verdict)
        finally:
            await client.close()


def compare(task: TaskPlan, found: Outcomes, messages: int, verdict: Verdict) -> None:
    """Add to a verdict what became of so many messages of a task."""
    verdict.wrong += [f"{task.id}: {text}" for text in found.wrong]
    for number in range(messages):
        verdict.messages += 1
        results = (found.sql[number], found.jetstream[number])
        copies = found.copies[number]
        label = f"{task.id} {number} (sql {results[0]}, jetstream {results[1]}, dead {copies})"
        kind = fate(number)
        if kind == "filtered":
            if max(results) or copies:
                verdict.wrong.append(f"{label}: was to be filtered out")
        elif kind != "result" and max(results):
            verdict.wrong.append(f"{label}: has a result")
        elif max(*results, copies) > 1 or (copies and max(results)):
            verdict.duplicated.append(label)
        elif not (copies or min(results)):
            verdict.lost.append(label)
        elif kind == "result" and copies:
            verdict.wrong.append(f"{label}: was given up")


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
