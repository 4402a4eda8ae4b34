"""The event loop of a worker process, in a thread, with everything that is pooled on it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

import sniffio

from sinfer import exit_codes
from sinfer.aio.cancel import end
from sinfer.errors import AccessError, SinferError, UnavailableError
from sinfer.hooks.call import CALLER, Caller, caller, describe, last_called
from sinfer.logging.throttled import Throttled
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.connection import Store
from sinfer.store.schedule import Schedule
from sinfer.store.wakes import WakeListener
from sinfer.windows.ids import Scope
from sinfer.worker.host import Host
from sinfer.worker.lease_keeper import LeaseKeeper
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


class WorkerLoop(asyncio.SelectorEventLoop):
    """An event loop that code of a product can neither stop nor empty.

    It is shared by all products of the process. So a hook that stops it, replaces its handlers or
    cancels tasks that are not its own is refused: the call raises, which harms the hook's own item
    and nothing else.
    """

    def __init__(self) -> None:
        super().__init__()
        super().set_task_factory(_make_task)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Stop it; refused to a hook."""
        _refuse("stop the worker's event loop")
        super().stop()

    def close(self) -> None:
        """Close it; refused to a hook."""
        _refuse("close the worker's event loop")
        super().close()

    def set_task_factory(self, factory: Any) -> None:
        """Set what makes its tasks; refused to a hook."""
        _refuse("replace the task factory of the worker's event loop")
        super().set_task_factory(factory)

    def set_exception_handler(self, handler: Callable[..., object] | None) -> None:
        """Set what is told of errors; refused to a hook."""
        _refuse("replace the exception handler of the worker's event loop")
        super().set_exception_handler(handler)

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Set where ``to_thread`` runs; refused to a hook."""
        _refuse("replace the default executor of the worker's event loop")
        super().set_default_executor(executor)

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """End the threads of ``to_thread``; refused to a hook."""
        _refuse("shut the default executor of the worker's event loop down")
        await super().shutdown_default_executor(*args, **kwargs)

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators; refused to a hook."""
        _refuse("close the generators of the worker's event loop")
        await super().shutdown_asyncgens()


class _OwnedTask(asyncio.Task[Any]):
    """A task that nobody but sinfer and who began it can cancel."""

    owner: Caller | None = None

    def cancel(self, msg: Any = None) -> bool:
        now = caller()
        if now is not None and not now.may_cancel(self, self.owner):
            _refuse(f"cancel the task {self.get_name()!r}, which it has not begun")
        return super().cancel(msg)


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coroutine: Coroutine[Any, Any, Any],
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    task = _OwnedTask(coroutine, loop=loop, context=context, **options)
    task.owner = caller() if context is None else context.get(CALLER)
    return task


def _refuse(what: str) -> None:
    now = caller()
    if now is not None:
        raise RuntimeError(f"a hook must not {what}: others use it as well")


class Runtime:
    """What all work of one process shares.

    Args:
        host: the process.
        work_on: has it work on a partition of which so many windows are told.

    Attributes:
        store: the window store.
        schedule: when beat looks where.
        catalogue: the products' tasks, ready to run.
        pauses: what is paused.
        host: the process.
        hints: tells other processes of windows.
        wakes: hears of windows that this process waits for.
        leases: keeps those of windows under way.
        places: how many windows are under way, and whose turn it is.
        partitions: those that are at work, by scope.
        unusable: partitions whose task cannot be used now, and why.
        closing: set when the process is about to end.
        old_hints: messages in a row that led to no window.
        looked_s: when the store was last asked what is ready, by the monotonic clock.
    """

    def __init__(self, host: Host, work_on: Callable[[Runtime, Scope, int], object]) -> None:
        self.host = host
        self._work_on = work_on
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
        self.pauses = PauseBoard(self.store)
        self.wakes = WakeListener(self.store, self._woken)
        self.catalogue = Catalogue(self.store, self.wakes)
        self._listening = asyncio.create_task(self.wakes.run(), name="listening for windows")

    def _woken(self, scope: Scope, windows: int) -> None:
        if not self.closing and self.host.serves(scope.product):
            self._work_on(self, scope, windows)

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

        While Redis is unavailable that is told now and then: what is missed now the next message
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
        as well, and wait forever. Ends the process, unless that is about to end.

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

    # --- the end ---

    async def _close(self, grace_s: float) -> None:
        await end(self._listening)  # first: others are told then
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
