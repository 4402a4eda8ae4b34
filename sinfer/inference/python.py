"""A model inside the worker: any Python callable."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, field_validator

from sinfer.config.units import format_duration, unit
from sinfer.errors import (
    ConfigError,
    HookError,
    InferenceError,
    InferenceServerError,
    InferenceUnavailableError,
)
from sinfer.hooks.call import Hook
from sinfer.inference.base import InferenceClient, InferenceConfig, MaxConcurrency


def name_of(call: str | Callable[..., Any]) -> str:
    """How a callable is named in a configuration."""
    if isinstance(call, str):
        return call
    return f"{call.__module__}:{getattr(call, '__qualname__', type(call).__qualname__)}"


class PythonConfig(InferenceConfig):
    """Settings of the ``python`` client."""

    type: Literal["python"] = "python"
    call: Annotated[
        str | Callable[..., Any],
        PlainSerializer(name_of, return_type=str, when_used="json"),
    ]
    """``"package.module:function"``, or the callable itself where the task is made in code."""
    max_concurrency: MaxConcurrency = Field(default=8, json_schema_extra=unit("calls"))
    """Calls of one task under way at once in one worker process, each in a thread of its own."""

    @field_validator("call")
    @classmethod
    def _call(cls, value: str | Callable[..., Any]) -> str | Callable[..., Any]:
        if isinstance(value, str):
            module, colon, name = value.partition(":")
            parts = [*module.split("."), *name.split(".")]
            if not colon or not all(part.isidentifier() for part in parts):
                raise ValueError("write 'package.module:function'")
        return value


class PythonClient(InferenceClient):
    """Calls ``function(request)`` and returns what it returns.

    ``async`` functions run on the worker's event loop and must not block it. Others run in threads
    of their own, at most ``max_concurrency`` at once. A thread cannot be interrupted: after the
    time-out its result is dropped, but it keeps its place until the function returns.

    An ``InferenceError`` that the function raises counts as it is: raise
    ``InferenceUnavailableError`` for "later" and ``InferenceRejectedError`` for "a bad element".
    Any other exception counts as ``InferenceServerError``.
    """

    type = "python"
    Config = PythonConfig

    def __init__(self, config: PythonConfig, *, in_place: bool = False) -> None:
        """Make the client.

        Args:
            config: its settings.
            in_place: call the function on the event loop's own thread and without a time-out, so
                that a debugger can stop in it.

        Raises:
            ConfigError: the function cannot be imported.
        """
        super().__init__(config)
        self._in_place = in_place
        self._name = name_of(config.call)
        self._call = _imported(config.call) if isinstance(config.call, str) else config.call
        self._is_async = inspect.iscoroutinefunction(self._call) or inspect.iscoroutinefunction(
            getattr(self._call, "__call__", None)  # noqa: B004 (an object with async __call__)
        )
        self._hook = Hook("inference", self._name, self._call, passing=(InferenceError,))
        self._threads = ThreadPoolExecutor(config.most_at_once, thread_name_prefix="sinfer-python")

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        if self._in_place:
            return await self._on_loop(request) if self._is_async else self._in_thread(request)
        deadline = asyncio.timeout(self.config.timeout.total_seconds())
        try:
            async with deadline:
                return await self._run(request)
        except TimeoutError:
            raise InferenceUnavailableError(
                f"{self._name}: no answer within {format_duration(self.config.timeout)}"
            ) from None

    async def _run(self, request: Any) -> Any:
        if self._is_async:
            return await self._on_loop(request)
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, context.run, self._in_thread, request)

    async def _on_loop(self, request: Any) -> Any:
        try:
            return await self._hook.wait(request)
        except HookError as error:
            raise InferenceServerError(str(error)) from error

    def _in_thread(self, request: Any) -> Any:
        try:
            return self._hook(request)
        except HookError as error:
            raise InferenceServerError(str(error)) from error

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _imported(name: str) -> Callable[..., Any]:
    module_name, _, path = name.partition(":")
    try:
        found = Hook("setup", name, _found)(module_name, path)
    except HookError as error:
        raise ConfigError(f"inference.call: {name!r} cannot be imported: {error.text}") from error
    if not callable(found):
        raise ConfigError(f"inference.call: {name!r} is not callable")
    checked: Callable[..., Any] = found
    return checked


def _found(module_name: str, path: str) -> Any:
    found: Any = importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return found
