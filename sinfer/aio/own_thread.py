"""Calling what may block for long in a thread of its own, so that an event loop goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class OwnThread(Generic[T]):
    """Calls one function at a time, each time in a new thread; nobody waits for it at the end.

    A call that takes long is not made again: whoever asks meanwhile waits for the same one, and
    when nobody waited for its end, the next one who asks gets what it came to.

    Args:
        name: of the threads, for people.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: Future[T] | None = None
        self._is_taken = False

    async def call(self, function: Callable[[], T]) -> T:
        """The result of the function, or of the call that is still under way; raises as that does.

        Cancelled, it leaves the call alone.
        """
        if self._running is None or self._is_taken:
            self._is_taken = False
            self._running = running = Future[T]()
            thread = threading.Thread(
                target=_run, args=(function, running), name=self._name, daemon=True
            )
            thread.start()
        running = self._running
        waiting = asyncio.wrap_future(running)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({waiting})
        self._is_taken = self._is_taken or running is self._running
        return running.result()


def _run(function: Callable[[], T], running: Future[T]) -> None:
    try:
        result = function()
    except BaseException as error:
        running.set_exception(error)
    else:
        running.set_result(result)
