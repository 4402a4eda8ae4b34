"""Windows that this process cannot process: why, for people to see, and who has them next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from sinfer.errors import ConfigError, UnavailableError
from sinfer.store.boards.pauses import Pause
from sinfer.store.work.claim import Claim
from sinfer.store.work.claims import PartitionClaims
from sinfer.worker.runtime import Runtime
from sinfer.worker.task_cache import HeldTask

_log = logging.getLogger(__name__)

_LET_GO_S = 60.0
"""How long it is tried to hand back a window that was broken off; then its lease runs out."""

_BROKEN_OFF_MS = 1000
"""When a window is tried again that was broken off."""

_UNUSABLE_SHOWN_MS = 60_000
"""How long people are shown why windows wait; each try says it again."""

_UNUSABLE_MS = 30_000
"""How long a window waits whose configuration cannot be used."""


class PartitionTrouble:
    """What is done with windows of one partition where all is not well.

    Args:
        runtime: of the process.
        claims: the partition.
    """

    def __init__(self, runtime: Runtime, claims: PartitionClaims) -> None:
        self._runtime = runtime
        self._claims = claims
        self._scope = claims.scope

    async def tell_unusable(self, problem: str) -> None:
        """Say why windows wait, in the log when it begins or changes, and for ``sinfer status``."""
        if self._runtime.unusable.get(self._scope) != problem:
            self._runtime.unusable[self._scope] = problem
            _log.error("%s: %s; its windows wait", self._scope, problem)
        await self._claims.note_unusable(problem, _UNUSABLE_SHOWN_MS)

    async def tell_usable(self) -> None:
        """Say that windows go on."""
        del self._runtime.unusable[self._scope]
        _log.info("%s: its windows go on", self._scope)
        await self._claims.note_unusable("", 0)

    async def release_unusable(self, claim: Claim, error: ConfigError) -> None:
        """Hand a window back whose configuration cannot be used."""
        _log.error("window %s waits: %s", claim.window.id, error)
        await self._claims.release(claim, wait_ms=_UNUSABLE_MS, counts=False)

    async def hand_back(self, claims: Sequence[Claim]) -> None:
        """Let go of windows, so that another worker has them at once; no attempt is counted."""
        try:
            for claim in claims:
                await self._claims.release(claim, counts=False)
        except UnavailableError as error:
            _log.warning("%s: windows not handed back, they wait: %s", self._scope, error)
        else:
            self._runtime.hints.send(self._scope, len(claims))

    async def pause(self, held: HeldTask, reason: str) -> None:
        """No call of the task can succeed: its windows wait until someone resumes it.

        When the task has changed meanwhile nothing is paused.
        """
        if not await held.is_current():
            return
        product, task = self._scope.product, self._scope.task
        if not self._runtime.pauses.stops_processing(product, task):
            _log.error("task %s/%s is paused: %s", product, task, reason)
            pause = Pause(reason, await self._claims.now_ms(), "processing")
            await self._runtime.pauses.pause(product, task, pause)

    async def let_go(self, claim: Claim, *, counts: bool) -> None:
        """Hand a window back that could not be processed to its end, as soon as Redis answers."""
        until = time.monotonic() + _LET_GO_S
        while time.monotonic() < until and not self._runtime.closing:
            try:
                await self._claims.release(claim, wait_ms=_BROKEN_OFF_MS, counts=counts)
            except UnavailableError:
                await asyncio.sleep(1.0)
            else:
                return
