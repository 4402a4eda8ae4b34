"""Hints: Celery messages that say where closed windows wait. Losing one costs latency, no more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sinfer.logging.masking import mask
from sinfer.logging.throttled import Throttled
from sinfer.tasks.application import make_app, waiting_messages
from sinfer.tasks.broker_errors import broker_problem
from sinfer.tasks.publishing import publish
from sinfer.types.queues import PROCESS_TASK, product_queue
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

MOST_WAITING = 200
"""So many messages may wait in a product's queue; further hints wait with their senders."""

_CREDIT = 50
"""So many messages a sender sends before it looks again how many wait."""

_CREDIT_S = 1.0

_LOOK_AGAIN_S = 0.2
"""How often a sender looks whether a full queue has room again."""


class HintSender:
    """Sends hints from a thread of its own, since publishing blocks while the broker stalls.

    One message stands for all windows of a partition that are known of: whoever follows it and
    finds more than it can take tells others. Hints that come while the thread is busy, or while the
    queue is full as no worker takes from it, are added up here. So neither grows with time.

    Args:
        app: the Celery application to publish with.
        sent: called with the number of messages after each success.

    Attributes:
        problem: why the broker takes nothing; empty when it does.
    """

    def __init__(self, app: Celery, sent: Callable[[int], None] | None = None) -> None:
        self._app = app
        self._sent = sent
        self._waiting: dict[str, dict[Scope, int]] = {}
        self._credits: dict[str, tuple[int, float]] = {}
        self._full: set[str] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._refused = Throttled(_log)
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="sinfer-hints", daemon=True)
        self._thread.start()

    def send(self, scope: Scope, windows: int, *, always: bool = False) -> None:
        """Have workers look at a partition. Returns at once.

        Args:
            scope: the partition.
            windows: how many wait that no worker was told of; with none nothing is sent.
            always: send even so.
        """
        if windows > 0 or always:
            with self._changed:
                self._add(scope, windows)
                self._changed.notify()

    def _add(self, scope: Scope, windows: int) -> None:
        waiting = self._waiting.setdefault(product_queue(scope.product), {})
        waiting[scope] = waiting.get(scope, 0) + windows

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(
                    self._is_worth_a_try, timeout=_LOOK_AGAIN_S if self._full else None
                )
                if self._closing and not self._waiting.keys() - self._full:
                    return
                if not self._closing:
                    self._full = set()
                waiting = {
                    queue: self._waiting.pop(queue) for queue in self._waiting.keys() - self._full
                }
            for queue, hints in waiting.items():
                if rest := self._publish(queue, hints):
                    with self._changed:
                        self._full.add(queue)
                        for scope, windows in rest.items():
                            self._add(scope, windows)

    def _is_worth_a_try(self) -> bool:
        return self._closing or bool(self._waiting.keys() - self._full)

    def _publish(self, queue: str, hints: dict[Scope, int]) -> dict[Scope, int]:
        """Publish as many hints as the queue has room for; returns the others."""
        rest = dict(hints)
        try:
            publish(self._app, lambda producer: self._send_all(queue, rest, producer))
        except Exception as error:  # whatever the transport raises: beat sends the hint again
            reason = broker_problem(error)
            problem = f"the Celery broker takes no messages ({reason}); beat will try again"
            self._refused.tell(problem)
            self.problem = mask(problem)
            return {}
        self._refused.over("the Celery broker takes messages again")
        self.problem = ""
        return rest

    def _send_all(self, queue: str, hints: dict[Scope, int], producer: Any) -> None:
        """Send hints, and take each that is sent from the dict, until the queue has no room."""
        for scope, windows in [*hints.items()]:
            if not self._may_publish(queue, producer.channel):
                return
            self._app.send_task(
                PROCESS_TASK,
                kwargs={
                    "product": scope.product,
                    "task": scope.task,
                    "partition": scope.partition,
                    "windows": windows,
                },
                queue=queue,
                ignore_result=True,
                retry=False,
                producer=producer,
            )
            del hints[scope]
            if self._sent is not None:
                self._sent(1)

    def _may_publish(self, queue: str, channel: object) -> bool:
        """Whether the queue has room for one more message."""
        left, until_s = self._credits.get(queue, (0, 0.0))
        now_s = time.monotonic()
        if left <= 0 or now_s > until_s:
            left = min(_CREDIT, MOST_WAITING - waiting_messages(channel, queue))
            until_s = now_s + _CREDIT_S
        self._credits[queue] = (left - 1, until_s)
        return left > 0

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits and end the thread; what cannot be sent in time is left to beat."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)


@contextmanager
def open_hints() -> Iterator[HintSender]:
    """A sender for a process that is no worker, closed at the end of the block.

    Raises:
        ConfigError: the settings cannot be used.
    """
    hints = HintSender(make_app([]))
    try:
        yield hints
    finally:
        hints.close()
