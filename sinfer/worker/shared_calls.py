"""Calls that ask about several small windows of one task at once.

Windows that are ready at the same time are put into one call, and its answer is taken apart again:
what comes back for each of them is as if it had been asked about alone. It is the batching of
inference servers (Crankshaw et al., "Clipper", NSDI 2017), before the network instead of behind it.

A call that is refused is halved by windows; one that is refused alone goes on by itself, see
``ModelSearch``. Where the answer is there and ``build_results`` fails on it, that is cut by rows.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import TOO_MANY_REQUESTS
from typing import Any

from sinfer.aio.cancel import end
from sinfer.errors import (
    HookError,
    InferenceError,
    InferenceMisconfiguredError,
    InferenceUnavailableError,
    InvalidResponseError,
    SharedWindowError,
    SinferError,
)
from sinfer.hooks.call import Hook
from sinfer.windows.shared_window import SharedWindow
from sinfer.windows.window import Window
from sinfer.worker.answer_rows import cut_answer
from sinfer.worker.endpoint_guard import Guard
from sinfer.worker.task_model import Answer, SharedFailure, TaskModel

_log = logging.getLogger(__name__)

_NO_VERDICT = (InferenceUnavailableError, InferenceMisconfiguredError, InvalidResponseError)
"""Errors that say nothing about the items."""


@dataclass(slots=True, eq=False)
class _Question:
    """A window that waits for its answer.

    Attributes:
        window: the window.
        key: the idempotency key of a call about it alone.
        answer: what comes of it.
        since_s: since when it waits, by the monotonic clock.
        call: the call that it is in; None while it waits for one.
    """

    window: Window[Any]
    key: str
    answer: asyncio.Future[Answer]
    since_s: float
    call: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Sharing:
    """How calls are shared.

    Attributes:
        size: most items of a call.
        wait_s: how long a window waits for others at most, while more may come.
        may_come: tells whether more may come.
    """

    size: int
    wait_s: float
    may_come: Callable[[], bool] = field(default=lambda: False)


class SharedCalls:
    """Asks about the windows of one task and configuration, several in a call. Use it on one event
    loop.

    Args:
        model: of the task.
        guard: what all workers together grant the endpoint.
        sharing: how calls are shared.

    Attributes:
        problem: why no calls are shared although they should; empty while they are.
    """

    def __init__(self, model: TaskModel, guard: Guard, sharing: Sharing) -> None:
        self._model = model
        self._guard = guard
        self._sharing = sharing
        self._cut = Hook("results", "answer", cut_answer, task=model.name)
        self._waiting: deque[_Question] = deque()
        self._items = 0
        self._coming = 0
        self._calls: dict[asyncio.Task[None], list[_Question]] = {}
        self._look: asyncio.Handle | None = None
        self.problem = ""

    async def ask(self, window: Window[Any], key: str) -> Answer:
        """Ask about a window, together with others that are ready.

        Args:
            window: not empty.
            key: the idempotency key of a call about it alone.
        """
        if self.problem or len(window) > self._sharing.size:
            return await self._model.ask(window, len(window), key)
        loop = asyncio.get_running_loop()
        question = _Question(window, key, loop.create_future(), time.monotonic())
        self._waiting.append(question)
        self._items += len(window)
        if self._look is None or self._items >= self._sharing.size:
            self._look_soon()
        try:
            return await question.answer
        finally:
            if not question.answer.done() or question.answer.cancelled():
                self._leave(question)

    @contextmanager
    def more_comes(self) -> Iterator[None]:
        """Before the end of the block a window is on its way here: others may wait for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            if not self._coming:
                self._look_soon()

    def _look_soon(self) -> None:
        """Begin calls once those that begin in the same moment are there as well."""
        if self._look is not None:
            self._look.cancel()  # it may wait for more
        self._look = asyncio.get_running_loop().call_soon(self._begin_calls)

    def _leave(self, question: _Question) -> None:
        """Nobody waits for its answer any more; a call that is for nobody ends."""
        question.answer.cancel()
        if question.call is None:
            self._waiting.remove(question)
            self._items -= len(question.window)
        elif all(other.answer.cancelled() for other in self._calls.get(question.call, ())):
            question.call.cancel()

    async def aclose(self) -> None:
        """End what is under way."""
        if self._look is not None:
            self._look.cancel()
        await end(*self._calls)

    # --- which windows go together ---

    def _begin_calls(self) -> None:
        self._look = None
        while self._waiting and len(self._calls) < self._model.calls_at_once:
            wait_s = self._wait_s()
            if wait_s > 0:
                self._look = asyncio.get_running_loop().call_later(wait_s, self._begin_calls)
                return
            group = self._next_group()
            call = asyncio.create_task(self._answer(group), name="shared call")
            self._calls[call] = group
            for question in group:
                question.call = call
            call.add_done_callback(self._note_end)

    def _wait_s(self) -> float:
        """How long to wait for more windows."""
        may_come = self._coming or self._sharing.may_come()
        if self._items >= self._sharing.size or not may_come:
            return 0.0
        return self._waiting[0].since_s + self._sharing.wait_s - time.monotonic()

    def _next_group(self) -> list[_Question]:
        group, items = [], 0
        while self._waiting and items + len(self._waiting[0].window) <= self._sharing.size:
            question = self._waiting.popleft()
            items += len(question.window)
            group.append(question)
        self._items -= items
        return group

    def _note_end(self, call: asyncio.Task[None]) -> None:
        del self._calls[call]
        if self._look is not None:
            self._look.cancel()
        self._begin_calls()

    # --- the question, and the answer taken apart ---

    async def _answer(self, group: Sequence[_Question]) -> None:
        """Ask, and tell each window what came of it."""
        try:
            answers = await self._ask(group)
        except asyncio.CancelledError:
            for question in group:
                question.answer.cancel()
            raise
        except Exception as error:
            for question in group:
                if not question.answer.done():
                    question.answer.set_exception(error)
            return
        for question, answer in zip(group, answers, strict=True):
            if not question.answer.done():
                question.answer.set_result(answer)

    async def _ask(self, group: Sequence[_Question]) -> list[Answer]:
        """The answers for some windows; each is as if that had been asked about alone."""
        if len(group) == 1:
            [question] = group
            return [await self._model.ask(question.window, len(question.window), question.key)]
        window = SharedWindow.of([question.window for question in group])
        answer = await self._model.ask(window, len(window), _key(group))
        if answer.results is not None:
            return _taken_apart(answer, group)
        error = answer.error
        assert error is not None
        if isinstance(error, _NO_VERDICT):
            return await self._without_answer(answer, error, group)
        if answer.stage == "results":
            apart = await self._by_rows(answer, error, len(window), group)
            if apart is not None:
                return apart
        if isinstance(error.__cause__, SharedWindowError):
            self._share_no_more(error)
            return [found for question in group for found in await self._ask([question])]
        middle = len(group) // 2
        return [*await self._ask(group[:middle]), *await self._ask(group[middle:])]

    async def _without_answer(
        self, answer: Answer, error: InferenceError, group: Sequence[_Question]
    ) -> list[Answer]:
        """There was none. That is one failure of the endpoint, and none of a single window."""
        breaker_ms = 0
        if isinstance(error, InferenceUnavailableError) and error.status != TOO_MANY_REQUESTS:
            breaker_ms = await self._guard.failed()
        failure = SharedFailure(breaker_ms, random.random())
        stage, calls = answer.stage, answer.calls
        return [
            Answer(error=copy(error), stage=stage, calls=calls, shared_failure=failure)
            for _ in group
        ]

    async def _by_rows(
        self, answer: Answer, error: SinferError, items: int, group: Sequence[_Question]
    ) -> list[Answer] | None:
        """What ``build_results`` makes of each window's rows; None where the rows are not known."""
        try:
            cut = self._cut(answer.response, items)
        except HookError:  # an answer of a product's own client, that does not like to be looked at
            return None
        if cut is None or not cut.is_certain:
            return None
        found, first = [], 0
        for question in group:
            window, last = question.window, first + len(question.window)
            rows = Hook("results", "answer", cut.rows)(first, last)
            part = Answer(stage="results", response=rows, model=answer.model, calls=answer.calls)
            try:
                part.results = await self._model.results_of(window, len(window), rows)
            except (HookError, InferenceError) as problem:
                part.error = problem
            found.append(part)
            first = last
        return found

    def _share_no_more(self, error: SinferError) -> None:
        if not self.problem:
            self.problem = f"inference.share_calls: each window is asked about alone: {error}"
            _log.warning("%s: %s", self._model.name, self.problem)


def _key(group: Sequence[_Question]) -> str:
    """The idempotency key of a call about several windows."""
    named = sha256("\n".join(question.key for question in group).encode()).hexdigest()
    return f"shared/{len(group)}-{named[:32]}"


def _taken_apart(answer: Answer, group: Sequence[_Question]) -> list[Answer]:
    """For each window its part of the results."""
    results, first, found = answer.results or [], 0, []
    for question in group:
        last = first + len(question.window)
        found.append(
            Answer(results[first:last], stage="results", model=answer.model, calls=answer.calls)
        )
        first = last
    return found
