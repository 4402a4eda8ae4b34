"""Working through a partition: claim, process many windows at once, claim again, for a while."""

from __future__ import annotations

import asyncio
import logging
import time

from sinfer.errors import ConfigError, UnavailableError
from sinfer.tasks.catalogue import ReadyTask
from sinfer.tasks.processing import WindowProcessor
from sinfer.tasks.runtime import Runtime
from sinfer.units import to_ms
from sinfer.windows.claims import Claim, PartitionClaims
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

SLICE_S = 1.0
"""After so long a Celery message claims no more, so that other tasks and ticks get their turn."""

_MOST_AT_ONCE = 16


async def drain(runtime: Runtime, scope: Scope, hinted: int) -> int:
    """Process closed windows of a partition until none is left or the time slice is over.

    Args:
        runtime: of this process.
        scope: the partition.
        hinted: windows that the Celery message in hand was sent for.

    Returns:
        How many windows were taken.
    """
    try:
        ready = await runtime.catalogue.task(scope.product, scope.task)
    except ConfigError as error:
        _log.error("%s; its windows wait", error)
        return 0
    await runtime.pauses.refresh()
    if runtime.pauses.of(scope.product, scope.task) is not None:
        return 0
    return await _Drain(runtime, scope, ready).run(hinted)


class _Drain:
    """One Celery message's work on one partition."""

    def __init__(self, runtime: Runtime, scope: Scope, ready: ReadyTask) -> None:
        self._runtime = runtime
        self._scope = scope
        self._ready = ready
        self._lease_ms = to_ms(ready.config.limits.lease)
        self._claims = PartitionClaims(runtime.store, scope)
        self._processor = WindowProcessor(ready, self._claims, runtime.pauses)
        self._active: dict[asyncio.Task[None], Claim] = {}
        self._taken = 0
        self._left = 0

    async def run(self, hinted: int) -> int:
        until = time.monotonic() + SLICE_S
        renewing = asyncio.create_task(self._renew())
        try:
            while True:
                claiming = time.monotonic() < until and not self._runtime.closing
                if claiming and not await self._ready.guard.wait_ms() and self._ready.free:
                    await self._claim(hinted)
                    hinted = 0
                if not self._active:
                    break
                await self._wait()
        except BaseException:
            for task in self._active:
                task.cancel()
            raise
        finally:
            renewing.cancel()
        if self._left and not await self._ready.guard.wait_ms():
            self._runtime.hints.send(self._scope, self._left)
        return self._taken

    async def _claim(self, hinted: int) -> None:
        """Take as many windows as may be started, and start them."""
        claims, self._left = await self._claims.claim(
            min(self._ready.free, _MOST_AT_ONCE), lease_ms=self._lease_ms, hinted=hinted
        )
        if not claims:
            return
        self._taken += len(claims)
        self._ready.active += len(claims)
        try:
            contents = await self._claims.read(claims)
        except BaseException:
            self._ready.active -= len(claims)
            raise
        for claim, messages in zip(claims, contents, strict=True):
            task = asyncio.create_task(
                self._processor.process(claim, messages), name=claim.window.id
            )
            self._active[task] = claim

    async def _wait(self) -> None:
        """Wait until a window is through, and note what went wrong with it."""
        done, _ = await asyncio.wait(self._active, return_when=asyncio.FIRST_COMPLETED)
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
        while True:
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
