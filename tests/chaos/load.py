"""The load of a chaos run: numbered messages for every task, each published exactly once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from tests.chaos.messages import payload
from tests.chaos.site import Site, TaskPlan

_BATCH = 40
_ACK_TIMEOUT_S = 2.0


class Load:
    """Publishes messages to all tasks at an even pace.

    Args:
        site: where to.
        messages: how many in all; they are shared out evenly.
        per_second: how many in all.

    Attributes:
        published: messages for each task that the server has, numbered from 0.
    """

    def __init__(self, site: Site, *, messages: int, per_second: float) -> None:
        self._site = site
        self.per_task = messages // len(site.tasks)
        self._interval_s = _BATCH * len(site.tasks) / per_second
        # Event time goes as fast as time does.
        self._item_s = len(site.tasks) / per_second
        self._began_s = time.time()
        self.published = {task.id: 0 for task in site.tasks}

    def time_of(self, number: int) -> float:
        """The event time of a message, seconds since the epoch."""
        return self._began_s + number * self._item_s

    def now(self, task_id: str) -> float:
        """How far event time is at the end of a task's stream; a slow machine leaves it behind."""
        return self.time_of(self.published[task_id])

    async def run(self) -> None:
        """Publish all messages; the server's outages are waited for."""
        client = await self._site.connect()
        try:
            jetstream = client.jetstream(timeout=_ACK_TIMEOUT_S)
            await asyncio.gather(*(self._publish(jetstream, task) for task in self._site.tasks))
        finally:
            await client.close()

    async def _publish(self, jetstream: JetStreamContext, task: TaskPlan) -> None:
        due = time.monotonic()
        for first in range(0, self.per_task, _BATCH):
            numbers = range(first, min(first + _BATCH, self.per_task))
            await self._publish_all(jetstream, task, numbers)
            self.published[task.id] = numbers.stop
            due = max(due + self._interval_s, time.monotonic() - 5 * self._interval_s)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _publish_all(
        self, jetstream: JetStreamContext, task: TaskPlan, numbers: Sequence[int]
    ) -> None:
        """Publish a batch until the server has all of it."""
        while True:
            if await self._try(jetstream, task, numbers):
                return
            await asyncio.sleep(0.1)

    async def _try(
        self, jetstream: JetStreamContext, task: TaskPlan, numbers: Sequence[int]
    ) -> bool:
        """Publish a batch; False when it is to be repeated, of which the stream knows copies."""
        acks = [
            jetstream.publish(
                task.subject,
                payload(n, self.time_of(n)),
                headers={"Nats-Msg-Id": str(n)},
            )
            for n in numbers
        ]
        failed = False
        for answer in await asyncio.gather(*acks, return_exceptions=True):
            if isinstance(answer, (NatsError, JetStreamError, OSError)):
                failed = True
            elif isinstance(answer, BaseException):
                raise answer
        return not failed
