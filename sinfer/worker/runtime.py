"""One event loop for a worker process, in a thread, with everything that is pooled on it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sniffio

from sinfer import exit_codes
from sinfer.aio.cancel import end
from sinfer.errors import AccessError, SinferError, UnavailableError
from sinfer.hooks.call import describe, last_called
from sinfer.logging.throttled import Throttled
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.connection import Store
from sinfer.store.hints import Hints
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim
from sinfer.windows.ids import Scope
from sinfer.worker.event_loop import WorkerLoop
from sinfer.worker.lease_keeper import LeaseKeeper
from sinfer.worker.outcome import WindowEnd
from sinfer.worker.slots import Places
from sinfer.worker.task_cache import Catalogue

if TYPE_CHECKING:
    from sinfer.worker.claim_loop import PartitionWork

_log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_S = 5.0
"""How long a process that is told to end waits for its windows; then it hands them back."""

REPLACED_GRACE_S = 25.0
"""How long a process waits that is replaced while the worker goes on: windows that take longer than
``GRACE_S`` come to an end there, too."""

_LOOK_S = 0.1

_HAND_BACK_S = 0.1


class ShownTry(Protocol):
    """One try of a window, as people see it."""

    def ended(self, end: WindowEnd | None) -> None:
        """What became of it; None where another worker has it, or it was broken off."""
        ...


class Host(Protocol):
    """The process that windows are processed in, and what it has to do with others.

    Attributes:
        hints: tells other processes of windows.
    """

    @property
    def hints(self) -> Hints: ...

    def serves(self, product: str) -> bool:
        """Whether windows of a product are processed here; others see to the rest."""
        ...

    def is_told_to_end(self) -> bool:
        """Whether everything is about to end, not only this process."""
        ...

    def note_load(self, windows: int) -> None:
        """So many windows are under way."""
        ...

    def began(self, scope: Scope, claim: Claim, messages: int) -> ShownTry | None:
        """A window is being processed; None while nobody wants to know.

        Args:
            scope: its partition.
            claim: of the window.
            messages: how many it has.
        """
        ...

    def close(self) -> None:
        """The process ends."""
        ...


class Runtime:
    """What all work of one process shares.

    Args:
        host: the process.

    Attributes:
        store: the window store.
        schedule: when beat looks where.
        catalogue: the products' tasks, ready to run.
        pauses: what is paused.
        host: the process.
        hints: tells other processes of windows.
        leases: keeps those of windows under way.
        places: how many windows are under way, and whose turn it is.
        partitions: those that are at work, by scope.
        unusable: partitions whose task cannot be used now, and why.
        closing: set when the process is about to end.
        old_hints: messages in a row that led to no window.
        looked_s: when the store was last asked what is ready, by the monotonic clock.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.hints = host.hints
        self.places = Places(changed=host.note_load)
        self.partitions: dict[Scope, PartitionWork] = {}
        self.unusable: dict[Scope, str] = {}
        self.closing = False
        self.old_hints = 0
        self.looked_s = float("-inf")
        self._handed_back_s = float("-inf")
        self._outage = Throttled(_log)
        self._has_outage = False
        self._works: set[asyncio.Task[None]] = set()
        self._is_ended = False
        self._loop = WorkerLoop()
        self._thread = threading.Thread(target=self._run, name="sinfer-loop", daemon=True)
        self._thread.start()
        self.leases = LeaseKeeper(self._loop, self._thread.ident)
        self.call(self._open())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        sniffio.thread_local.name = "asyncio"  # httpcore asks again and again, and this is quick
        problem = "it was stopped"
        try:
            self._loop.run_forever()
        except BaseException as error:
            problem = describe(error)
        if not self._is_ended:
            end_process(f"its event loop has ended: {problem}")

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
        except CancelledError:
            self.note_cancelled("what a Celery message asked for")
            raise
        except BaseException:
            future.cancel()
            raise

    def call_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop, without waiting for it."""
        self._loop.call_soon_threadsafe(function, *args)

    def run(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Run what a Celery message asks for; it returns False when Redis has not answered yet.

        While Redis is away that is told from time to time: whatever is missed now, the next message
        finds.
        """
        try:
            has_answered = self.call(coroutine) is not False
        except UnavailableError as error:
            self._tell(error)
        else:
            if has_answered and self._has_outage:
                self._has_outage = False
                self._outage.over("Redis answers again")

    def _tell(self, error: UnavailableError) -> None:
        self._has_outage = True
        level = logging.ERROR if isinstance(error, AccessError) else logging.WARNING
        self._outage.tell(str(error), level=level)

    def begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start work on the loop that may outlast the Celery message it came from."""
        task = asyncio.create_task(work, name=name)
        self._works.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        if task.cancelled():
            self.note_cancelled(f"work on {task.get_name()}")
        error = None if task.cancelled() else task.exception()
        if isinstance(error, UnavailableError):
            self._tell(error)
        elif isinstance(error, SinferError):
            _log.error("%s: work was broken off: %s", task.get_name(), error)
        elif error is not None:
            _log.error("%s: work was broken off", task.get_name(), exc_info=error)

    def note_cancelled(self, what: str) -> None:
        """Something of sinfer's own was cancelled, and sinfer has not asked for it: others may be
        as well, and wait for ever. Ends the process, unless that is about to end.

        Args:
            what: it was, for the log.
        """
        if not self.closing:
            end_process(f"{what} was cancelled by code that is not sinfer's")

    def may_hand_back(self) -> bool:
        """Whether a partition that waits for a place may be offered to other processes now."""
        now_s = time.monotonic()
        if now_s - self._handed_back_s < _HAND_BACK_S:
            return False
        self._handed_back_s = now_s
        return True

    def note_claims(self, found_windows: bool) -> None:
        """Note whether work on a partition found windows; ``old_hints`` counts those in a row that
        did not."""
        self.old_hints = 0 if found_windows else self.old_hints + 1

    # --- the end ---

    async def _close(self, grace_s: float) -> None:
        self.places.close()
        for work in self.partitions.values():
            work.wake()
        until_s = time.monotonic() + grace_s
        while self._works and (rest_s := until_s - time.monotonic()) > 0:
            if self.host.is_told_to_end() and rest_s > GRACE_S:
                until_s = time.monotonic() + GRACE_S
            await asyncio.wait(self._works, timeout=min(rest_s, _LOOK_S))
        await end(*self._works)
        await self.catalogue.aclose()
        await self.store.aclose()

    def close(self, grace_s: float = GRACE_S) -> None:
        """End or hand back what is under way, close all connections and end the loop.

        Args:
            grace_s: how long windows may take to end, seconds.
        """
        self.closing = True
        try:
            self.call(self._close(grace_s))
        finally:
            self.leases.close()
            self._is_ended = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            if not self._thread.is_alive():
                self._loop.close()
            self.host.close()


def end_process(problem: str) -> None:
    """End this process at once, with a line in the log: it can do nothing more.

    Celery's pool of processes replaces it; with other pools this ends the whole worker. Its windows
    come back when their leases run out.
    """
    last = last_called()
    _log.critical(
        "worker process %d ends: %s%s; its windows are processed elsewhere when their leases run"
        " out",
        os.getpid(), problem, f" (hooks that ran last, the latest first: {last})" if last else "",
    )  # fmt: skip
    for handler in logging.getLogger().handlers:
        handler.flush()
    sys.stderr.flush()
    os._exit(exit_codes.FAILED)
