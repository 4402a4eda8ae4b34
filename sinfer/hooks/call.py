"""Calling other people's code: a product's hooks, task managers, clients and sinks of its own.

What such code raises is any ``BaseException``: ``sys.exit()`` is one, so is the panic of a Rust
extension, and an error's own ``__str__`` may raise as well. Raised into the event loop, some of
these end it. So all of that code is called through a ``Hook``, which makes a ``HookError`` of
whatever comes out, and which knows what is being called at the moment, and since when.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from threading import Event
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from sinfer.errors import ConfigError, HookError, InvalidItemError, SinferError
from sinfer.extras import missing_extra
from sinfer.hooks.plain_errors import plain
from sinfer.logging.masking import one_line

_log = logging.getLogger(__name__)

HookStage: TypeAlias = Literal[
    "setup", "tasks", "preprocess", "window", "request", "inference", "results", "sink"
]
"""Where in the work a hook is called."""

_LEAVING_S = 1.0
"""How long a hook that is cancelled may take to clean up; then nobody waits for it any more."""

_LONGEST_TEXT = 20_000
"""More characters of an error's text are not even looked at."""

_UNAWAITED = (CoroutineType, AsyncGeneratorType, asyncio.Future)


@dataclass(frozen=True, slots=True)
class Running:
    """A call that is under way.

    Attributes:
        task: ``product/task``, or what else the hook belongs to.
        hook: its name.
        began_s: when the call began, by the monotonic clock.
        blocks: the thread that it has to itself at the moment; None while it awaits something.
        blocks_since_s: since when it has, by the monotonic clock; 0 while it awaits something.
    """

    task: str
    hook: str
    began_s: float
    blocks: int | None = None
    blocks_since_s: float = 0.0


_steps: dict[int, tuple[Hook, float, float]] = {}
"""By thread: the hook that runs there, when its call began and when it last took the thread."""

_awaiting: dict[int, tuple[Hook, float]] = {}
"""Calls that await something, by a number of their own, and when they began."""

_numbers = itertools.count()

_OF_CLIENTS: tuple[HookStage, ...] = ("setup", "inference", "sink")
"""Stages whose code may share connections, whichever task it works for."""


class Caller:
    """A hook on whose behalf code runs: its own, or what it has begun.

    Args:
        hook: the hook.

    Attributes:
        runs_in: the task that a call runs in which awaits something. It is the call's own, unless
            that is one of sinfer's.
    """

    __slots__ = ("hook", "runs_in")

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.runs_in: asyncio.Task[Any] | None = None

    def may_cancel(self, task: asyncio.Task[Any], owner: Caller | None) -> bool:
        """Whether it may cancel a task that was begun on behalf of ``owner``; None is sinfer."""
        if owner is self or (self.hook.is_ours and self.runs_in is task):
            return True
        if owner is None or owner.runs_in is task:
            return False
        is_client, other = self.hook.stage in _OF_CLIENTS, owner.hook.stage in _OF_CLIENTS
        return is_client == other and (is_client or self.hook.task == owner.hook.task)


CALLER: ContextVar[Caller | None] = ContextVar("sinfer_caller", default=None)
"""Whose code runs in a context; None for sinfer's own."""

_last: deque[Hook] = deque(maxlen=8)
"""The hooks that were called last, in any thread; one that runs again and again is there once."""


caller: Callable[[], Caller | None] = CALLER.get
"""Whose code runs here; None for sinfer's own."""


def last_called() -> str:
    """The hooks that ran last in this process, the latest first, as people are told of them; empty
    when none has."""
    latest = reversed(_last.copy())
    named = (f"{hook.name} of {hook.task}" if hook.task else hook.name for hook in latest)
    return ", ".join(dict.fromkeys(named))


def running() -> list[Running]:
    """What is being called in this process at the moment; may be asked from any thread."""
    found = [
        Running(hook.task, hook.name, began_s, thread, since_s)
        for thread, (hook, began_s, since_s) in _steps.copy().items()
    ]
    return found + [
        Running(hook.task, hook.name, began_s) for hook, began_s in _awaiting.copy().values()
    ]


class DebuggerLeft(KeyboardInterrupt):
    """Somebody who debugs a hook has left the debugger, and wants to leave what runs it."""


_debugging = Event()


def leaving_a_debugger_ends_the_program() -> None:
    """From now on ``DebuggerLeft`` is raised where a hook is left by ``q`` in pdb, which raises an
    ``Exception`` there that would pass for a mistake of the product."""
    _debugging.set()


def _has_left_a_debugger(error: BaseException) -> bool:
    bdb = sys.modules.get("bdb")  # unless it is imported, nobody can have left it
    return bdb is not None and _debugging.is_set() and isinstance(error, bdb.BdbQuit)


class Hook:
    """One function of a product, or of a client, sink or task manager that a product ships.

    Args:
        stage: where in the work it is called.
        name: what the product's author calls it, such as ``build_request``.
        function: what is called.
        task: ``product/task``, for people who want to know what runs.
        passing: exceptions that mean something and are passed on as they are.
        is_ours: whether the function is one of sinfer's own, and calls nothing of a product's. Then
            a call that is awaited needs no task to itself.
    """

    __slots__ = ("_as_caller", "_function", "_passing", "is_ours", "name", "stage", "task")

    def __init__(
        self,
        stage: HookStage,
        name: str,
        function: Callable[..., Any],
        *,
        task: str = "",
        passing: tuple[type[Exception], ...] = (),
        is_ours: bool = False,
    ) -> None:
        self.stage: HookStage = stage
        self.name = name
        self.task = task
        self._function = function
        self._passing = passing
        self.is_ours = is_ours
        self._as_caller = Caller(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it where nothing is awaited.

        Raises:
            HookError: whatever it raised; or it returned something to be awaited.
        """
        return self._plain(self._called(args, kwargs))

    def each(self, things: Iterable[Any]) -> list[Any]:
        """Call it for many things, one after the other, where nothing is awaited.

        Returns:
            For each thing what it returned, or the ``HookError`` that a call for it alone would
            have raised. What passes is raised.
        """
        thread = threading.get_ident()
        outer = _steps.get(thread)
        before = CALLER.set(self._as_caller)
        found: list[Any] = []
        try:
            for thing in things:
                now_s = time.monotonic()
                _steps[thread] = (self, now_s, now_s)
                self._note()
                try:
                    result = self._function(thing)
                except BaseException as error:
                    if self._passes(error):
                        raise
                    result = self._failed(error)
                if isinstance(result, _UNAWAITED):
                    result = self._unawaited(result)
                found.append(result)
        finally:
            CALLER.reset(before)
            if outer is None:
                _steps.pop(thread, None)
            else:
                _steps[thread] = outer
        return found

    def _plain(self, result: Any) -> Any:
        """A result that is not to be awaited.

        Raises:
            HookError: it is.
        """
        if isinstance(result, _UNAWAITED):
            raise self._unawaited(result)
        return result

    def _unawaited(self, result: Any) -> HookError:
        if isinstance(result, CoroutineType):
            result.close()
        return HookError(
            self.stage, self.name, "returned something to be awaited; make it a plain function"
        )

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        thread = threading.get_ident()
        outer = _steps.get(thread)
        now_s = time.monotonic()
        _steps[thread] = (self, now_s, now_s)
        self._note()
        before = CALLER.set(self._as_caller)
        try:
            return self._function(*args, **kwargs)
        except BaseException as error:
            problem = self._told(error)
            if problem is error:
                raise
            raise problem from problem.__cause__
        finally:
            CALLER.reset(before)
            if outer is None:
                _steps.pop(thread, None)
            else:
                _steps[thread] = outer

    def _note(self) -> None:
        if not _last or _last[-1] is not self:
            _last.append(self)

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, and await what it returns if that is to be awaited.

        Only a cancellation from here is one. For that it runs in a task of its own, unless it is
        sinfer's. A hook that does not end within a second when it is cancelled is left alone.

        Raises:
            HookError: whatever it raised.
        """
        result = self._called(args, kwargs)
        try:
            is_awaitable = inspect.isawaitable(result)
        except BaseException as error:
            raise self._failed(error) from error
        if not is_awaitable:
            return result
        if self.is_ours:
            return await self._awaited_here(result)
        context = copy_context()
        call = Caller(self)
        context.run(CALLER.set, call)
        inner = asyncio.create_task(
            _settled(_Steps(self, result)), name=f"hook {self.name}", context=context
        )
        call.runs_in = inner
        try:
            await _end_of(inner)
        except BaseException:
            asyncio.Task.cancel(inner)  # whoever asked for it: what is cancelled here is ours
            _, late = await asyncio.wait({inner}, timeout=_LEAVING_S)
            if late:
                _log.error("%s: %s does not end though it was cancelled", self.task, self.name)
            raise
        if inner.cancelled():  # before its first step
            raise HookError(self.stage, self.name, "CancelledError")
        result, problem = inner.result()
        if problem is None:
            return result
        told = self._told(problem)
        raise told from told.__cause__

    async def _awaited_here(self, result: Any) -> Any:
        """Await it in the task in hand: it is cancelled when somebody asked for that, and not when
        such an error is raised."""
        task = asyncio.current_task()
        steps = _Steps(self, result)
        call = Caller(self)
        call.runs_in = task
        before = CALLER.set(call)
        try:
            return await steps
        except BaseException as error:
            is_asked = task is not None and task.cancelling() > 0
            if steps.is_closed or (is_asked and isinstance(error, asyncio.CancelledError)):
                raise
            if self._passes(error):
                raise
            raise self._failed(error) from error
        finally:
            if not steps.is_closed:  # then the context may be another
                CALLER.reset(before)

    def _passes(self, error: BaseException) -> bool:
        if isinstance(error, KeyboardInterrupt):
            return _is_from_keyboard(error)
        return isinstance(error, self._passing) and _has_text(error)

    def _told(self, error: BaseException) -> BaseException:
        """What is passed on of something that was raised."""
        if not self._passes(error):
            return self._failed(error)
        if not isinstance(error, SinferError):
            return error
        try:
            return plain(error)
        except BaseException as problem:
            return self._failed(problem)

    def _failed(self, error: BaseException) -> HookError:
        if _has_left_a_debugger(error):
            raise DebuggerLeft from error
        failed = HookError(self.stage, self.name, describe(error))
        failed.__cause__ = error
        return failed


async def _end_of(task: asyncio.Task[Any]) -> None:
    """As ``asyncio.wait`` for one task."""
    ended = asyncio.get_running_loop().create_future()
    task.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
    await ended


class _Steps(Awaitable[Any]):
    """Awaits something of a product's, and notes of each step that it has the thread to itself.

    Attributes:
        is_closed: whether whoever awaits it was thrown away in the middle.
    """

    __slots__ = ("_hook", "_result", "is_closed")

    def __init__(self, hook: Hook, result: Any) -> None:
        self._hook = hook
        self._result = result
        self.is_closed = False

    def __await__(self) -> Generator[Any, Any, Any]:
        hook, number, began_s = self._hook, next(_numbers), time.monotonic()
        thread = threading.get_ident()
        value: Any = None
        problem: BaseException | None = None
        try:
            _steps[thread] = (hook, began_s, began_s)
            inner = self._result.__await__()
            while True:
                _steps[thread] = (hook, began_s, time.monotonic())
                hook._note()
                try:
                    if problem is not None:
                        waits_for = _thrown(inner, problem)
                    else:
                        waits_for = next(inner) if value is None else inner.send(value)
                except StopIteration as end:
                    return end.value
                finally:
                    _steps.pop(thread, None)
                value = problem = None
                _awaiting[number] = (hook, began_s)
                try:
                    value = yield waits_for
                except BaseException as error:
                    self.is_closed = isinstance(error, GeneratorExit)
                    problem = error
                finally:
                    _awaiting.pop(number, None)
        finally:
            _steps.pop(thread, None)


def _thrown(inner: Any, error: BaseException) -> Any:
    """The next step of something that is awaited, with an exception."""
    throw = getattr(inner, "throw", None)
    if throw is None:
        raise error
    return throw(error)


async def _settled(steps: _Steps) -> tuple[Any, BaseException | None]:
    """The result or the error: raised out of a task, ``SystemExit`` would end the event loop."""
    try:
        return await steps, None
    except BaseException as error:
        return None, error


def made(what: str, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make an object of a class that a product may have written: a pipeline, client or sink.

    Args:
        what: what is made, as errors call it.
        make: the class.
        args, kwargs: what it is made of.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        return Hook("setup", what, make, passing=(ConfigError,))(*args, **kwargs)
    except HookError as error:
        raise ConfigError(f"{what} cannot be made: {missing_extra(error) or error.text}") from error


def reason_of(error: BaseException) -> str:
    """What a hook raised that was called without a ``Hook``, as ``describe`` tells it.

    Raises:
        KeyboardInterrupt: it is one from the keyboard, which is not the hook's.
    """
    if isinstance(error, KeyboardInterrupt) and _is_from_keyboard(error):
        raise error
    if _has_left_a_debugger(error):
        raise DebuggerLeft from error
    return describe(error)


def describe(error: BaseException) -> str:
    """An error in one line of bounded length, whatever its text does; for dead letters and logs."""
    try:
        return one_line(_text(error)[:_LONGEST_TEXT])
    except BaseException:
        return one_line(f"{type.__getattribute__(type(error), '__name__')} without a readable text")


def _text(error: BaseException) -> str:
    if isinstance(error, HookError):
        return error.text
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_input=False)
        return "; ".join(
            f"{'.'.join(str(part) for part in detail['loc']) or 'message'}: {detail['msg']}"
            for detail in details[:5]
        )
    text = str(error)
    if isinstance(error, InvalidItemError):
        return text
    name = type(error).__name__
    told = f"{name}: {text}" if text else name
    if isinstance(error, SystemExit):
        return f"{told} (it asked for the end of the process)"
    return told


def _has_text(error: BaseException) -> bool:
    """Whether others can read what it says."""
    try:
        str(error).encode("utf-8")
    except BaseException:
        return False
    return True


def _is_from_keyboard(error: KeyboardInterrupt) -> bool:
    """Whether somebody at the terminal raised it, and not the code that was called: Ctrl-C, by way
    of asyncio's handler, or the end of a debugger."""
    if isinstance(error, DebuggerLeft):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name == "_on_sigint"
