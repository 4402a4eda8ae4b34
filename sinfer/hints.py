"""Hints: Celery messages that say where closed windows wait. Losing one costs latency, no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from math import ceil

from celery import Celery

from sinfer.celery_app import PROCESS_TASK, product_queue
from sinfer.windows.ids import Scope
from sinfer.windows.writer import HINT_MS

_log = logging.getLogger(__name__)

WINDOWS_PER_HINT = 16
MOST_HINTS = 8
"""Most messages for one partition at a time; beyond that each one stands for more windows."""


def split_hint(windows: int) -> list[int]:
    """How many windows each message stands for."""
    messages = min(MOST_HINTS, ceil(windows / WINDOWS_PER_HINT))
    return [windows // messages + (place < windows % messages) for place in range(messages)]


class HintSender:
    """Sends hints from a thread of its own, since publishing blocks while the broker stalls.

    Hints for a partition that come while the thread is busy are added up.

    Args:
        app: the Celery application to publish with.
        sent: called with the number of messages after each success.
    """

    def __init__(self, app: Celery, sent: Callable[[int], None] | None = None) -> None:
        self._app = app
        self._sent = sent
        self._waiting: dict[Scope, int] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="sinfer-hints", daemon=True)
        self._thread.start()

    def send(self, scope: Scope, windows: int) -> None:
        """Have workers look at a partition. Returns at once."""
        if windows > 0:
            with self._changed:
                self._waiting[scope] = self._waiting.get(scope, 0) + windows
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                waiting, self._waiting = self._waiting, {}
            for scope, windows in waiting.items():
                self._publish(scope, windows)

    def _publish(self, scope: Scope, windows: int) -> None:
        try:
            for part in split_hint(windows):
                self._app.send_task(
                    PROCESS_TASK,
                    kwargs={
                        "product": scope.product,
                        "task": scope.task,
                        "partition": scope.partition,
                        "windows": part,
                    },
                    queue=product_queue(scope.product),
                    expires=12 * HINT_MS / 1000,
                    ignore_result=True,
                    retry=False,
                )
                if self._sent is not None:
                    self._sent(1)
        except Exception as error:  # whatever the transport raises: beat sends the hint again
            if not self._failing:
                _log.warning("the Celery broker takes no messages (%s); beat will try again", error)
            self._failing = True
        else:
            if self._failing:
                _log.info("the Celery broker takes messages again")
            self._failing = False

    def close(self, timeout_s: float = 3.0) -> None:
        """Send what waits and end the thread; what cannot be sent in time is left to beat."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
