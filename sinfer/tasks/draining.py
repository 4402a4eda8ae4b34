"""Working through a partition: claim, process many windows at once, claim again, for a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from sinfer.cancelling import end
from sinfer.errors import ConfigError, UnavailableError
from sinfer.messages import Message
from sinfer.tasks.catalogue import HeldTask
from sinfer.tasks.processing import WindowProcessor
from sinfer.tasks.ready_task import ReadyTask
from sinfer.tasks.runtime import Runtime
from sinfer.units import to_ms
from sinfer.windows.claims import Claim, PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.pauses import Pause

_log = logging.getLogger(__name__)

SLICE_S = 1.0
"""After so long a Celery message claims no more, so that other tasks and ticks get their turn."""

PATIENCE_S = 1.0
"""So much longer a Celery message waits for its last windows. Then it ends and leaves them to the
process's event loop: however long a model takes, it holds up no other task and no tick."""

_MOST_AT_ONCE = 16

_GATHER_S = 0.02
"""How long free places wait for each other, so that one claim fills several."""

_UNUSABLE_MS = 30_000
"""How long a window waits whose configuration cannot be used."""


async def drain(runtime: Runtime, scope: Scope, hinted: int) -> None:
    """Process closed windows of a partition until none is left or the time slice is over.

    Args:
        runtime: of this process.
        scope: the partition.
        hinted: windows that the Celery message in hand was sent for.

    Raises:
        UnavailableError: Redis is away.
    """
    try:
        held = await runtime.catalogue.hold(scope)
    except ConfigError as error:
        if await PartitionClaims(runtime.store, scope).waiting():
            _log.error("%s; its windows wait", error)
        return
    running = None
    try:
        await runtime.pauses.refresh()
        if runtime.pauses.stops_processing(scope.product, scope.task):
            # Who resumed it has had hints sent, and left alone they would be missed.
            await runtime.pauses.refresh(at_once=True)
            if runtime.pauses.stops_processing(scope.product, scope.task):
                return
        if not held.current.free:
            held.current.turned_away.add(scope)
            return
        work = _Drain(runtime, scope, held)
        running = runtime.begin(work.run(hinted))
        running.add_done_callback(lambda _: held.release())
    finally:
        if running is None:
            held.release()
    try:
        done, _ = await asyncio.wait({running}, timeout=SLICE_S + PATIENCE_S)
    except asyncio.CancelledError:
        running.cancel()
        raise
    if done:
        running.result()
    else:
        work.leave()
        running.add_done_callback(_tell)


def _tell(running: asyncio.Task[None]) -> None:
    """Nobody waits for it any more: say what went wrong."""
    error = None if running.cancelled() else running.exception()
    if error is not None:
        _log.error("work was broken off", exc_info=error)


class _Drain:
    """The work that one Celery message causes on one partition."""

    def __init__(self, runtime: Runtime, scope: Scope, held: HeldTask) -> None:
        self._runtime = runtime
        self._scope = scope
        self._held = held
        self._ready = held.current
        self._lease_ms = to_ms(self._ready.config.limits.lease)
        self._claims = PartitionClaims(runtime.store, scope)
        self._processors: dict[ReadyTask, WindowProcessor] = {}
        self._active: dict[asyncio.Task[None], Claim] = {}
        self._left = 0
        self._claimed_s = 0.0
        self._is_paused = False
        self._is_over = False

    async def run(self, hinted: int) -> None:
        """Claim for a time slice, and end when the last window has."""
        until = time.monotonic() + SLICE_S
        renewing = asyncio.create_task(self._renew())
        try:
            while True:
                if time.monotonic() > until or self._runtime.closing:
                    self._call_back()
                elif self._is_paused:
                    self._left = 0
                elif self._is_worth_a_claim():
                    try:
                        if wait_ms := await self._ready.guard.wait_ms():
                            self._left = 0  # beat comes back when the endpoint may be called
                            await self._runtime.schedule.hint_again(self._scope, wait_ms)
                        elif self._ready.free:
                            await self._claim(hinted)
                    except UnavailableError as error:
                        if not self._active:
                            raise
                        _log.warning("%s: no more windows claimed: %s", self._scope, error)
                        until = 0.0
                    hinted = 0
                if not self._active:
                    break
                await self._wait()
        except BaseException:
            await self._hand_back()
            raise
        finally:
            self._is_over = True
            renewing.cancel()
        self._call_back()
        if time.monotonic() >= until or self._runtime.closing:
            self._runtime.hints.send(self._scope, self._left)  # else others are at work on them
        if not self._ready.active:
            await self._ready.guard.not_tried()

    def leave(self) -> None:
        """The Celery message ends before the work does: others may have what is left meanwhile."""
        self._runtime.hints.send(self._scope, self._left)
        self._left = 0

    def _call_back(self) -> None:
        """There are places again: have another look at who found none."""
        while self._ready.free and self._ready.turned_away:
            self._runtime.hints.send(self._ready.turned_away.pop(), 1)

    async def _hand_back(self) -> None:
        """Let go of the windows, so that another worker has them at once; no attempt is counted."""
        claims = list(self._active.values())
        await end(*self._active)
        self._ready.active -= len(self._active)
        self._active.clear()
        try:
            for claim in claims:
                await self._claims.release(claim, counts=False)
        except UnavailableError as error:
            _log.warning("%s: windows not handed back, they wait: %s", self._scope, error)
        else:
            self._runtime.hints.send(self._scope, len(claims))

    def _is_worth_a_claim(self) -> bool:
        """Whether half of the places are free, or any for a while: short windows go in batches."""
        free = self._ready.free
        waited_s = time.monotonic() - self._claimed_s
        return bool(free) and (
            not self._active or 2 * free >= self._ready.limit or waited_s >= _GATHER_S
        )

    async def _claim(self, hinted: int) -> None:
        """Take as many windows as may be started, and start them."""
        self._claimed_s = time.monotonic()
        places = min(self._ready.free, _MOST_AT_ONCE)
        self._ready.active += places
        try:
            while True:
                claims, self._left = await self._claims.claim(
                    places, lease_ms=self._lease_ms, hinted=hinted
                )
                whole = await self._claims.whole(claims) if claims else []
                if whole or not self._left:
                    break
                hinted = 0  # those were set aside: the next ones must not wait for that
        except BaseException:
            self._ready.active -= places
            raise
        self._ready.active -= places - len(whole)
        for claim, messages in whole:
            task = asyncio.create_task(self._process(claim, messages), name=claim.window.id)
            self._active[task] = claim

    async def _process(self, claim: Claim, messages: Sequence[Message]) -> None:
        """Process a window with the task as it was opened under."""
        try:
            ready = await self._held.of(claim.window.record.config)
        except ConfigError as error:
            _log.error("window %s waits: %s", claim.window.id, error)
            await self._claims.release(claim, wait_ms=_UNUSABLE_MS, counts=False)
            return
        processor = self._processors.get(ready)
        if processor is None:
            processor = WindowProcessor(ready, self._claims, self._pause)
            self._processors[ready] = processor
        await processor.process(claim, messages)

    async def _pause(self, reason: str) -> None:
        """No call of the task can succeed: its windows wait until someone resumes it.

        When the task has changed meanwhile nothing is paused.
        """
        if not await self._held.is_current():
            return
        product, task = self._scope.product, self._scope.task
        if not self._runtime.pauses.stops_processing(product, task):
            _log.error("task %s/%s is paused: %s", product, task, reason)
            pause = Pause(reason, await self._claims.now_ms(), "processing")
            await self._runtime.pauses.pause(product, task, pause)
        self._is_paused = True

    async def _wait(self) -> None:
        """Wait until a window is through, and note what went wrong with it."""
        gathering = bool(self._ready.free) and time.monotonic() - self._claimed_s < _GATHER_S
        done, _ = await asyncio.wait(
            self._active,
            timeout=_GATHER_S if gathering else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in done:
            claim = self._active.pop(task)
            self._ready.active -= 1
            error = task.exception() if not task.cancelled() else None
            if isinstance(error, UnavailableError):
                _log.warning("window %s waits for its lease to end: %s", claim.window.id, error)
            elif error is not None:
                _log.error("window %s waits for its lease to end", claim.window.id, exc_info=error)

    async def _renew(self) -> None:
        """Keep the leases; stop work on windows that someone else has by now."""
        while not self._is_over:
            await asyncio.sleep(self._lease_ms / 3000)
            if not self._active:
                continue
            held = list(self._active.items())
            try:
                renewed = await self._claims.renew(
                    [claim for _, claim in held], lease_ms=self._lease_ms
                )
            except UnavailableError as error:
                _log.warning("%s: leases not renewed: %s", self._scope, error)
                continue
            for (task, claim), still in zip(held, renewed, strict=True):
                if not still and not task.done():
                    _log.warning("window %s: lost to another worker", claim.window.id)
                    task.cancel()
