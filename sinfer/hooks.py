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
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from sinfer.errors import ConfigError, HookError, InvalidItemError, SinferError
from sinfer.masking import one_line
from sinfer.plain_errors import plain

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
        runs_in: the task that a call has to itself which awaits something.
    """

    __slots__ = ("hook", "runs_in")

    def __init__(self, hook: Hook) -> None:
        self.hook = hook
        self.runs_in: asyncio.Task[Any] | None = None

    def may_cancel(self, task: asyncio.Task[Any], owner: Caller | None) -> bool:
        """Whether it may cancel a task that was begun on behalf of ``owner``; None is sinfer."""
        if owner is self:
            return True
        if owner is None or owner.runs_in is task:
            return False
        is_client, other = self.hook.stage in _OF_CLIENTS, owner.hook.stage in _OF_CLIENTS
        return is_client == other and (is_client or self.hook.task == owner.hook.task)


_caller: ContextVar[Caller | None] = ContextVar("sinfer_caller", default=None)

_last: deque[Hook] = deque(maxlen=8)
"""The hooks that were called last, in any thread; one that runs again and again is there once."""


def caller() -> Caller | None:
    """Whose code runs here; None for sinfer's own."""
    return _caller.get()


def caller_in(context: Context) -> Caller | None:
    """Whose code runs in a context; None for sinfer's own."""
    return context.get(_caller)


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


class Hook:
    """One function of a product, or of a client, sink or task manager that a product ships.

    Args:
        stage: where in the work it is called.
        name: what the product's author calls it, such as ``build_request``.
        function: what is called.
        task: ``product/task``, for people who want to know what runs.
        passing: exceptions that mean something and are passed on as they are.
    """

    __slots__ = ("_as_caller", "_function", "_passing", "name", "stage", "task")

    def __init__(
        self,
        stage: HookStage,
        name: str,
        function: Callable[..., Any],
        *,
        task: str = "",
        passing: tuple[type[Exception], ...] = (),
    ) -> None:
        self.stage: HookStage = stage
        self.name = name
        self.task = task
        self._function = function
        self._passing = passing
        self._as_caller = Caller(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it where nothing is awaited.

        Raises:
            HookError: whatever it raised; or it returned something to be awaited.
        """
        result = self._called(args, kwargs)
        if isinstance(result, _UNAWAITED):
            if isinstance(result, CoroutineType):
                result.close()
            raise HookError(
                self.stage, self.name, "returned something to be awaited; make it a plain function"
            )
        return result

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        thread = threading.get_ident()
        outer = _steps.get(thread)
        now_s = time.monotonic()
        _steps[thread] = (self, now_s, now_s)
        self._note()
        before = _caller.set(self._as_caller)
        try:
            return self._function(*args, **kwargs)
        except BaseException as error:
            problem = self._told(error)
            if problem is error:
                raise
            raise problem from problem.__cause__
        finally:
            _caller.reset(before)
            if outer is None:
                _steps.pop(thread, None)
            else:
                _steps[thread] = outer

    def _note(self) -> None:
        if not _last or _last[-1] is not self:
            _last.append(self)

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        """Call it, and await what it returns if that is to be awaited.

        It runs in a task of its own, so that only a cancellation from here is one. A hook that does
        not end within a second when it is cancelled is left alone.

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
        context = copy_context()
        call = Caller(self)
        context.run(_caller.set, call)
        inner = asyncio.create_task(
            _settled(_Steps(self, result)), name=f"hook {self.name}", context=context
        )
        call.runs_in = inner
        try:
            await asyncio.wait({inner})
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
        failed = HookError(self.stage, self.name, describe(error))
        failed.__cause__ = error
        return failed


class _Steps(Awaitable[Any]):
    """Awaits something of a product's, and notes of each step that it has the thread to itself."""

    __slots__ = ("_hook", "_result")

    def __init__(self, hook: Hook, result: Any) -> None:
        self._hook = hook
        self._result = result

    def __await__(self) -> Generator[Any, Any, Any]:
        number, began_s = next(_numbers), time.monotonic()
        thread = threading.get_ident()
        step: Callable[[], Any]
        try:
            _steps[thread] = (self._hook, began_s, began_s)
            inner = self._result.__await__()
            step = _Send(inner, None)
            while True:
                _steps[thread] = (self._hook, began_s, time.monotonic())
                self._hook._note()
                try:
                    waits_for = step()
                except StopIteration as end:
                    return end.value
                finally:
                    _steps.pop(thread, None)
                _awaiting[number] = (self._hook, began_s)
                try:
                    step = _Send(inner, (yield waits_for))
                except BaseException as error:
                    step = _Throw(inner, error)
                finally:
                    _awaiting.pop(number, None)
        finally:
            _steps.pop(thread, None)


class _Send:
    """The next step of something that is awaited, with what it waited for."""

    __slots__ = ("_inner", "_value")

    def __init__(self, inner: Any, value: Any) -> None:
        self._inner = inner
        self._value = value

    def __call__(self) -> Any:
        return next(self._inner) if self._value is None else self._inner.send(self._value)


class _Throw:
    """The next step of something that is awaited, with an exception."""

    __slots__ = ("_error", "_inner")

    def __init__(self, inner: Any, error: BaseException) -> None:
        self._inner = inner
        self._error = error

    def __call__(self) -> Any:
        throw = getattr(self._inner, "throw", None)
        if throw is None:
            raise self._error
        return throw(self._error)


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
        raise ConfigError(f"{what} cannot be made: {error.text}") from error


def reason_of(error: BaseException) -> str:
    """What a hook raised that was called without a ``Hook``, as ``describe`` tells it.

    Raises:
        KeyboardInterrupt: it is one from the keyboard, which is not the hook's.
    """
    if isinstance(error, KeyboardInterrupt) and _is_from_keyboard(error):
        raise error
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
