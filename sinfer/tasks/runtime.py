"""The runtime of each process of a Celery worker.

Made when the first task runs, so always after a fork, and known by process id, so that a child
never touches its parent's. Celery's prefork, threads and solo pools all go through it.
"""

from __future__ import annotations

import atexit
import gc
import os
import threading

from billiard.pool import EX_RECYCLE
from celery import Celery

from sinfer.store.work.claim import Claim
from sinfer.tasks import worker_memory
from sinfer.tasks.hints import HintSender
from sinfer.tasks.window_events import ShownWindow, WindowEvents
from sinfer.types.queues import product_queue
from sinfer.windows.ids import Scope
from sinfer.worker.claim_loop import work_on
from sinfer.worker.runtime import GRACE_S, REPLACED_GRACE_S, Runtime


class CeleryHost:
    """A process of a Celery worker; see ``sinfer.worker.host.Host``.

    Args:
        app: the Celery application.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.hints = HintSender(app)
        self._events = WindowEvents(app)

    def serves(self, product: str) -> bool:
        return product_queue(product) in self._app.amqp.queues.consume_from

    def is_told_to_end(self) -> bool:
        return worker_memory.is_told_to_end()

    def note_load(self, windows: int) -> None:
        worker_memory.note_load(windows)

    def began(self, scope: Scope, claim: Claim, messages: int) -> ShownWindow | None:
        return self._events.began(scope, claim, messages)

    def close(self) -> None:
        self.hints.close()
        self._events.close()


_runtimes: dict[int, Runtime] = {}
_making = threading.Lock()


def runtime(app: Celery) -> Runtime:
    """The runtime of this process."""
    found = _runtimes.get(os.getpid())
    if found is None:
        with _making:
            found = _runtimes.get(os.getpid())
            if found is None:
                gc.freeze()
                found = _runtimes[os.getpid()] = Runtime(CeleryHost(app), work_on)
                atexit.register(close_runtime)
    return found


def close_runtime(exitcode: int | None = None, **_: object) -> None:
    """Close the runtime of this process, if it has one.

    Args:
        exitcode: what the process is about to end with, as Celery's pool says.
    """
    found = _runtimes.pop(os.getpid(), None)
    if found is not None:
        found.close(REPLACED_GRACE_S if exitcode == EX_RECYCLE else GRACE_S)
