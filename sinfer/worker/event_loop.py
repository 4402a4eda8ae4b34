"""The event loop of a worker process, which code of a product can neither stop nor empty.

It is shared by all products of the process. So a hook that stops it, replaces its handlers or
cancels tasks that are not its own is refused: the call raises, which harms the hook's own item and
nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

from sinfer.hooks.call import CALLER, Caller, caller


class WorkerLoop(asyncio.SelectorEventLoop):
    """An event loop that obeys sinfer only; see the module."""

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
