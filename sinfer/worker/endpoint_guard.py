"""What all workers together grant a model: a cap on calls at once, and a circuit breaker.

The state is in Redis. The breaker (Nygard, "Release It!", 2007) opens after failures in a row, from
whichever worker; while it is open nobody calls, so windows wait and burn no attempts. When its
pause is over, one call goes on trial: a success closes the breaker, a failure opens it for longer.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from sinfer.config.units import to_ms
from sinfer.inference.base import InferenceConfig
from sinfer.store.boards.endpoints import EndpointState
from sinfer.worker.endpoint_places import EndpointPlaces

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.wakes import WakeListener

_log = logging.getLogger(__name__)

_FRESH_S = 0.5
"""How long an answer about the breaker may be used."""

GRACE_MS = 5_000
"""So long after its time-out a call holds its place if nobody gives it back: its worker crashed."""


class Guard(Protocol):
    """What a task asks before and after each call; ``EndpointGuard`` says what the parts do.

    Attributes:
        on_trial: whether only a single call may be made.
        has_slots: whether calls have to hold a ``slot``.
        has_failed: whether a call that succeeds is to be told.
        free_until_s: until then, by the monotonic clock, calls may be made without asking.
    """

    on_trial: bool
    has_slots: bool
    has_failed: bool
    free_until_s: float

    async def wait_ms(self) -> int: ...

    async def succeeded(self) -> None: ...

    async def failed(self) -> int: ...

    async def not_tried(self) -> None: ...

    def slot(self, items: int, due_s: float | None) -> AbstractAsyncContextManager[None]: ...

    async def aclose(self) -> None: ...


class OpenGuard:
    """Lets every call pass: where a single process runs a single task, without Redis.

    Args:
        breaker_failures: after so many failures in a row the model counts as unavailable.
    """

    on_trial = False
    has_slots = False
    free_until_s = float("inf")

    def __init__(self, breaker_failures: int) -> None:
        self._breaker_failures = breaker_failures
        self._failures = 0
        self.has_failed = False

    async def wait_ms(self) -> int:
        return 0

    async def succeeded(self) -> None:
        self._failures = 0
        self.has_failed = False

    async def failed(self) -> int:
        self._failures += 1
        self.has_failed = True
        return 1 if self._failures >= self._breaker_failures else 0

    async def not_tried(self) -> None:
        """Nothing to note."""

    @asynccontextmanager
    async def slot(self, items: int, due_s: float | None) -> AsyncIterator[None]:
        yield

    async def aclose(self) -> None:
        """Nothing to end."""


class EndpointGuard:
    """Guards one model for one task in one process.

    Args:
        store: Redis.
        endpoint: name of the model and where it is, the same for all tasks that call it.
        config: the ``inference:`` part of the task.
        task: ``product/task``.
        wakes: tells of places that are given; None where nobody does.
        learned: is called with how many calls the endpoint bears whenever that is learned anew.
    """

    def __init__(
        self,
        store: Store,
        endpoint: str,
        config: InferenceConfig,
        *,
        task: str = "",
        wakes: WakeListener | None = None,
        learned: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._endpoint = endpoint
        self._config = config
        self._trial = ""
        self._state = EndpointState(store, endpoint, to_ms(config.timeout) + GRACE_MS)
        self.has_failed = False
        self.has_slots = config.endpoint_concurrency is not None or config.learns_concurrency
        self._places = EndpointPlaces(
            self._state,
            task,
            most=config.endpoint_concurrency,
            learns=config.learns_concurrency,
            wakes=wakes,
            learned=learned,
        )
        self.free_until_s = float("-inf")
        self._wait_ms = 0
        self.on_trial = False

    async def wait_ms(self) -> int:
        """How long nobody may call: 0 when calls may be made now.

        ``on_trial`` tells afterwards whether only a single call may be made.
        """
        now_s = time.monotonic()
        if now_s < self.free_until_s:
            return 0
        caller = uuid.uuid4().hex
        may_call = await self._state.may_call(caller)
        self._wait_ms, self.on_trial = may_call.wait_ms, may_call.on_trial
        self.free_until_s = float("-inf") if self._wait_ms else now_s + _FRESH_S
        self._trial = caller if self.on_trial else self._trial
        self.has_failed = self.has_failed or self.on_trial
        return self._wait_ms

    async def succeeded(self) -> None:
        """A call was answered: the breaker closes."""
        if self.has_failed:
            self.has_failed = False
            await self._state.close_breaker()
            if self.on_trial:
                self.on_trial = False
                _log.info("model %s answers again", self._endpoint)

    async def failed(self) -> int:
        """A call failed for want of the endpoint.

        Returns:
            How long the breaker stays open, milliseconds; 0 when it is closed.
        """
        self.has_failed = True
        self.on_trial = False
        config = self._config
        self._wait_ms, opened = await self._state.note_failure(
            config.breaker_failures, to_ms(config.retry_base), to_ms(config.retry_max)
        )
        self.free_until_s = float("-inf") if self._wait_ms else time.monotonic() + _FRESH_S
        if opened:
            _log.warning(
                "model %s: %d failures in a row; no calls for %d ms",
                self._endpoint, config.breaker_failures, self._wait_ms,
            )  # fmt: skip
        return self._wait_ms

    async def not_tried(self) -> None:
        """There was nothing to call it with: another caller may have the trial, if there is one."""
        if self.on_trial:
            self.on_trial = False
            self.free_until_s = float("-inf")
            await self._state.end_trial(self._trial)

    def slot(self, items: int, due_s: float | None) -> AbstractAsyncContextManager[None]:
        """Hold one of the endpoint's places during a call; see ``EndpointPlaces.place``."""
        return self._places.place(items, due_s)

    async def aclose(self) -> None:
        """Ask for no more places."""
        await self._places.aclose()
