"""One event loop for each worker process, in a thread, with everything that is pooled on it.

Made when the first task runs, so always after a fork, and known by process id, so that a child
never touches its parent's. Celery's prefork, threads and solo pools all go through it.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from celery import Celery

from sinfer.cancelling import end
from sinfer.complaints import Complaints
from sinfer.errors import AccessError, UnavailableError
from sinfer.hints import HintSender
from sinfer.tasks.catalogue import Catalogue
from sinfer.windows.pauses import PauseBoard
from sinfer.windows.schedule import Schedule
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_S = 5.0
"""How long a process that is told to end waits for its windows; then it hands them back."""


class Runtime:
    """What the tasks of one process share.

    Attributes:
        store: the window store.
        schedule: when beat looks where.
        catalogue: the products' tasks, ready to run.
        pauses: what is paused.
        hints: sends further Celery messages.
        closing: set when the process is about to end.
    """

    def __init__(self, app: Celery) -> None:
        self.hints = HintSender(app)
        self.closing = False
        self._complaints = Complaints()
        self._works: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sinfer-loop", daemon=True)
        self._thread.start()
        self.call(self._open())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> None:
        self.store = Store.from_settings()
        self.schedule = Schedule(self.store)
        self.catalogue = Catalogue(self.store)
        self.pauses = PauseBoard(self.store)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it; cancel it when the wait is broken off."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run what a Celery message asks for. While Redis is away that is told from time to time:
        whatever is missed now, the next message finds."""
        try:
            self.call(coroutine)
        except UnavailableError as error:
            if self._complaints.is_due(str(error)):
                level = logging.ERROR if isinstance(error, AccessError) else logging.WARNING
                _log.log(level, "%s", error)
        else:
            if self._complaints.clear():
                _log.info("Redis answers again")

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work on the loop that may outlast the Celery message it came from."""
        task = asyncio.create_task(work)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return task

    async def _close(self) -> None:
        if self._works:
            _, late = await asyncio.wait(self._works, timeout=GRACE_S)
            await end(*late)
        await self.catalogue.aclose()
        await self.store.aclose()

    def close(self) -> None:
        """End or hand back what is under way, close all connections and end the loop."""
        self.closing = True
        try:
            self.call(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            if not self._thread.is_alive():
                self._loop.close()
            self.hints.close()


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
                found = _runtimes[os.getpid()] = Runtime(app)
    return found


def close_runtime(**_: object) -> None:
    """Close the runtime of this process, if it has one."""
    found = _runtimes.pop(os.getpid(), None)
    if found is not None:
        found.close()


atexit.register(close_runtime)
