"""Places for calls of one task, of which all workers together have so many at a model's endpoint.

The calls of a process that wait are in a line of their own, those whose results are due earliest
first; only the first of them asks Redis, where those who wait in other processes and for other
tasks have theirs (see ``move_endpoint_slots.lua``).
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from heapq import heappop, heappush
from http.client import GATEWAY_TIMEOUT, SERVICE_UNAVAILABLE, TOO_MANY_REQUESTS

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.errors import InferenceError, InferenceUnavailableError, StoreError, UnavailableError
from sinfer.store.boards.endpoints import Ended, EndpointState, Fate, Place
from sinfer.store.wakes import WakeListener

_ASK_AGAIN_S = 0.25
"""How often one that waits asks again, where it is told of its place."""

_POLL_S = 0.02
"""How often it does where it is not."""

_PATIENCE_S = 60.0
"""When the results of windows without a deadline count as due, from when they ask on."""

_BUSY = (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE, GATEWAY_TIMEOUT)


class EndpointPlaces:
    """The places of an endpoint, for the calls of one task in one process.

    Args:
        state: of the endpoint.
        task: ``product/task``.
        most: places in all at most; None for any number.
        learns: whether there are as many as the endpoint bears.
        wakes: tells of places that are given; None where nobody does.
        learned: is called with how many places there are whenever that is learned anew.
    """

    def __init__(
        self,
        state: EndpointState,
        task: str,
        *,
        most: int | None,
        learns: bool,
        wakes: WakeListener | None,
        learned: Callable[[int], None],
    ) -> None:
        self._state = state
        self._task = task
        self._most = most
        self._learns = learns
        self._wakes = wakes
        self._line: list[tuple[float, int, asyncio.Future[Place]]] = []
        self._numbers = itertools.count()
        self._asking: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._learned = learned
        self._limit = 0

    @asynccontextmanager
    async def place(self, items: int, due_s: float | None) -> AsyncIterator[None]:
        """Hold a place during a call.

        Args:
            items: that the call asks about.
            due_s: when its results are due, by the monotonic clock; None where they never are.

        Raises:
            UnavailableError, StoreError: there is no place to be had.
        """
        place = await self._next_place(due_s)
        began_s = time.monotonic()
        fate: Fate = ""
        try:
            yield
            fate = "ok"
        except InferenceUnavailableError as error:
            fate = _fate_of(error)
            raise
        except InferenceError:
            fate = "ok"
            raise
        finally:
            took_ms = (time.monotonic() - began_s) * 1000
            await self._free(Ended(place, took_ms, fate, items))

    async def _next_place(self, due_s: float | None) -> Place:
        if due_s is None:
            due_s = time.monotonic() + _PATIENCE_S
        found: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        heappush(self._line, (due_s, next(self._numbers), found))
        if self._line[0][2] is found:
            self._look.set()  # its results are due earlier than what was asked for
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name=f"places for {self._task}")
        try:
            return await found
        except asyncio.CancelledError:
            if found.done() and not found.cancelled() and found.exception() is None:
                await self._free(Ended(found.result()))
            raise

    async def _free(self, ended: Ended) -> None:
        with suppress(UnavailableError, StoreError):  # the place is free by itself in a while
            self._note_limit(await self._state.free_place(ended))

    # --- the line of this process ---

    async def _ask(self) -> None:
        """Ask for places until nobody waits for one."""
        try:
            while self._first() is not None:
                place = await self._ask_for_one()
                if (first := self._first()) is None:
                    await self._free(Ended(place))
                else:
                    heappop(self._line)
                    first.set_result(place)
        except Exception as error:
            for waiting in self._leave_line():
                waiting.set_exception(error)
        except asyncio.CancelledError:
            for waiting in self._leave_line():
                waiting.cancel()
            raise
        finally:
            self._asking = None

    def _leave_line(self) -> list[asyncio.Future[Place]]:
        """Those who wait: whatever becomes of the question, they hear of it."""
        line, self._line = self._line, []
        return [waiting for *_, waiting in line if not waiting.done()]

    def _first(self) -> asyncio.Future[Place] | None:
        """Who is first in the line; those who have left it are forgotten."""
        while self._line and self._line[0][2].done():
            heappop(self._line)
        return self._line[0][2] if self._line else None

    async def _ask_for_one(self) -> Place:
        place = Place(uuid.uuid4().hex, self._task, self._most, self._learns)
        if self._wakes is not None:
            self._wakes.expected[place.holder] = self._look
        try:
            self._look.clear()
            while not await self._is_given(place):
                if self._first() is None:
                    break
                is_told = self._wakes is not None and self._wakes.name
                again_s = _ASK_AGAIN_S if is_told else _POLL_S
                await wait_for_event(self._look, again_s * random.uniform(0.5, 1.5))
                self._look.clear()
        except BaseException:
            await self._free(Ended(place))
            raise
        finally:
            if self._wakes is not None:
                self._wakes.expected.pop(place.holder, None)
        return place

    async def _is_given(self, place: Place) -> bool:
        due_s = self._line[0][0] if self._line else time.monotonic()
        channel = "" if self._wakes is None else self._wakes.name
        taken, limit = await self._state.take_place(
            place,
            due_ms=round((due_s - time.monotonic()) * 1000),
            wait_ms=round(_ASK_AGAIN_S * 6000),
            channel=channel,
        )
        self._note_limit(limit)
        return taken

    def _note_limit(self, limit: int) -> None:
        if self._learns and limit != self._limit:
            self._limit = limit
            self._learned(limit)

    async def aclose(self) -> None:
        """Ask for no more places."""
        if self._asking is not None:
            await end(self._asking)


def _fate_of(error: InferenceUnavailableError) -> Fate:
    """What a call without an answer tells of how many the endpoint bears."""
    is_late = error.status is None and not error.not_begun
    return "busy" if is_late or error.status in _BUSY else ""
