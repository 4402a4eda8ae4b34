"""Many calls made one: what is asked for while a call is under way goes together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


def _one(_: object) -> int:
    return 1


@dataclass(slots=True, eq=False)
class Batcher(Generic[A, R]):
    """Turns a function of many arguments into one of a single argument.

    Calls of the function never overlap. Whoever waits may be cancelled; the call goes on.

    Args:
        call: takes arguments and returns, for each in its place, a result, or an error to be raised
            to whoever asked; or it raises, which is raised to all of them.
        size: how much an argument adds to its batch; 1 by default.
        max_size: most in one batch, unless a single argument is larger.
    """

    call: Callable[[Sequence[A]], Awaitable[Sequence[R | Exception]]]
    size: Callable[[A], int] = field(default=_one, kw_only=True)
    max_size: float = field(default=float("inf"), kw_only=True)
    _waiting: deque[tuple[A, asyncio.Future[R]]] = field(default_factory=deque, init=False)
    _running: asyncio.Task[None] | None = field(default=None, init=False)

    async def __call__(self, argument: A) -> R:
        """The result for one argument.

        Raises:
            Exception: what the call returned for this argument, or raised.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await answer

    async def aclose(self) -> None:
        """Wait for what is under way, and for what waits for it."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            try:
                found = await self.call([argument for argument, _ in batch])
                answered = list(zip(batch, found, strict=True))
            except asyncio.CancelledError:
                for _, answer in [*batch, *self._waiting]:
                    answer.cancel()
                self._waiting.clear()
                raise
            except Exception as error:
                answered = [(one, error) for one in batch]
            for (_, answer), result in answered:
                _give(answer, result)

    def _next_batch(self) -> list[tuple[A, asyncio.Future[R]]]:
        batch = [self._waiting.popleft()]
        size = self.size(batch[0][0])
        while self._waiting and (size := size + self.size(self._waiting[0][0])) <= self.max_size:
            batch.append(self._waiting.popleft())
        return batch


def _give(answer: asyncio.Future[R], result: R | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
