"""Working through a partition: claim, process many windows at once, claim again until none is left.

A Celery message, or a wake (see ``store.wakes``), only begins this work; it goes on in the
process's event loop, once for each partition, and what comes meanwhile is added to it. The loop is
``PartitionWork.run``:

    while windows are wanted:
        hold the task as it is now
        take places · claim as many windows · start each with ``WindowProcessor.process``
    wait for those that are under way
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.errors import ConfigError, UnavailableError
from sinfer.logging.masking import mask
from sinfer.store.work.claim import Claim
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.ids import Scope
from sinfer.worker.partition_trouble import PartitionTrouble
from sinfer.worker.process import WindowProcessor
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.runtime import Runtime
from sinfer.worker.slots import AT_ONCE
from sinfer.worker.task_cache import HeldTask

_log = logging.getLogger(__name__)

BEGIN_S = 1.0
"""So long a Celery message waits at most for its work to begin. Then it ends all the same: however
long a model or a task manager takes, it holds up no other task and no tick."""

_ROUND_S = 1.0
"""After so long the task is looked up again: it may have changed."""

_HAND_BACK_S = 0.5
"""After so long without a free place another process is told of the partition."""

_RECRUIT_S = 1.0
"""How often other processes are told of windows that this one leaves to them."""

_MOST_AT_ONCE = 16
"""Windows of one claim; a backlog of more is told of less often, see ``promise`` in prelude.lua."""

_MOST_SHARING = 128
"""Windows of one claim, where they share calls."""

_GATHER_S = 0.02
"""How long free places wait for each other, so that one claim fills several."""

_ALONE_S = 60.0
"""How long a window that has to be alone waits for others to end."""

_ALONE_LATER_MS = 1000
"""When it is looked again after a window that found no time to be alone."""


_OLD_HINTS = 16
"""After so many hints in a row that led to no window the store is asked."""

_LOOK_AGAIN_S = 2.0


async def follow_hint(runtime: Runtime, scope: Scope, hinted: int) -> bool:
    """Do as a Celery message says; see ``drain``."""
    has_begun = await drain(runtime, scope, hinted)
    if runtime.old_hints >= _OLD_HINTS:
        look_around(runtime)
    return has_begun


async def drain(runtime: Runtime, scope: Scope, hinted: int) -> bool:
    """Begin to process the closed windows of a partition, until none is left.

    Args:
        runtime: of this process.
        scope: the partition.
        hinted: windows that the Celery message in hand was sent for.

    Returns:
        Whether the work has begun, or there was none; False when that takes its time.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    work = work_on(runtime, scope, hinted)
    with suppress(TimeoutError):
        async with asyncio.timeout(BEGIN_S):
            await work.begun.wait()
    if work.outage is not None:
        raise work.outage
    return work.begun.is_set()


def work_on(runtime: Runtime, scope: Scope, hinted: int = 0) -> PartitionWork:
    """Have the process work on a partition; see ``drain``."""
    work = runtime.partitions.get(scope)
    if work is not None:
        work.more(hinted)
        return work
    work = runtime.partitions[scope] = PartitionWork(runtime, scope)
    work.more(hinted)
    runtime.begin(work.run(), work.name)
    return work


def look_around(runtime: Runtime) -> None:
    """Begin with what is ready in the store, unless that was done just now."""
    now_s = time.monotonic()
    if not runtime.closing and now_s - runtime.looked_s >= _LOOK_AGAIN_S:
        runtime.looked_s, runtime.old_hints = now_s, 0
        runtime.begin(_begin_what_is_ready(runtime), "looking for windows")


async def _begin_what_is_ready(runtime: Runtime) -> None:
    """Partitions of the products whose queues this worker serves; others see to the rest."""
    scopes = [
        scope
        for scope in await runtime.schedule.partitions()
        if runtime.host.serves(scope.product) and scope not in runtime.partitions
    ]
    random.shuffle(scopes)
    for scope in await runtime.schedule.ready(scopes, AT_ONCE):
        if runtime.closing:
            return
        work_on(runtime, scope)


class PartitionWork:
    """The work of this process on one partition.

    Attributes:
        name: of the partition.
        begun: set when the work needs no Celery message any more that waits for it.
        outage: why it ended; None when it did not end for want of Redis.
    """

    def __init__(self, runtime: Runtime, scope: Scope) -> None:
        self._runtime = runtime
        self._scope = scope
        self._store = runtime.store
        self._claims = PartitionClaims(runtime.store, scope)
        self.name = self._claims.name
        self._places = runtime.places
        self._processors: dict[ReadyTask, WindowProcessor] = {}
        self._active: dict[asyncio.Task[None], tuple[Claim, HeldTask]] = {}
        self._let_off: set[asyncio.Task[None]] = set()
        self._hinted = 0
        self._is_wanted = False
        self._has_claimed = False
        self._claimed_s = float("-inf")
        self._recruited_s = float("-inf")
        self._held: HeldTask | None = None
        self._pause_asked_s = float("-inf")
        self._changed = asyncio.Event()
        self.begun = asyncio.Event()
        self.outage: UnavailableError | None = None

    def more(self, hinted: int) -> None:
        """A message came: there may be windows to claim."""
        self._hinted += hinted
        self._is_wanted = True
        self._changed.set()

    def wake(self) -> None:
        """Have it look whether the process is about to end."""
        self._changed.set()

    # --- the loop ---

    async def run(self) -> None:
        """Claim until nothing is left, and end when the last window has.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        try:
            while self._goes_on or self._active:
                if self._goes_on:
                    await self._claim_for_a_while()
                else:
                    await self._wait()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                # At once: a window that is handed back does not count as one that does this.
                self._runtime.note_cancelled(f"work on {self._scope}")
            self.outage = error if isinstance(error, UnavailableError) else None
            self._end()
            await self._hand_back()
            raise
        finally:
            self._end()
        if self._runtime.closing and (self._is_wanted or self._hinted):  # others go on
            self._runtime.hints.send(self._scope, max(1, self._hinted))
        self._runtime.old_hints = 0 if self._has_claimed else self._runtime.old_hints + 1

    async def _claim_for_a_while(self) -> None:
        """Claim windows with the task as it is now."""
        held = await self._hold()
        if held is None:
            self._leave_it()
            return
        until = time.monotonic() + _ROUND_S
        self._held = held
        try:
            while self._goes_on and time.monotonic() < until:
                if self._is_worth_a_claim(held.current):
                    await self._claim_or_leave(held)
                    if self._claims.suspected and not self._runtime.closing:
                        await self._claim_alone(held)
                else:
                    await self._wait(_GATHER_S)
        finally:
            self._held = None
            self._release_unused(held)
            if not held.current.active:
                await held.current.guard.not_tried()

    async def _claim_or_leave(self, held: HeldTask) -> None:
        """Take as many windows as may be started, and start them."""
        ready = held.current
        most = _MOST_AT_ONCE if ready.shared_calls is None else _MOST_SHARING
        places = self._places.take_now(ready, most) or await self._wait_for_places(ready)
        unused = places
        try:
            if not places or not await self._may_claim(held):
                return
            if ready.guard.on_trial:  # for a single call, whoever makes it
                spare = min(places, ready.active - 1)
                self._places.give_back(ready, spare)
                unused = places = places - spare
            if places:
                unused -= await self._claim(held, places)
        except UnavailableError as error:
            if not self._active:
                raise
            _log.warning("%s: no more windows claimed: %s", self._scope, error)
            self._leave_it()
        finally:
            if unused:
                self._places.give_back(ready, unused)

    async def _claim(self, held: HeldTask, places: int) -> int:
        """Claim and start up to so many windows; returns how many."""
        lease_ms = held.current.lease_ms
        self._claimed_s = time.monotonic()
        hinted, self._hinted = self._hinted, 0
        self._is_wanted = False
        while True:
            with self._runtime.leases.claiming(self._scope, lease_ms) as name:
                whole, claimed, left = await self._claims.claim_whole(
                    places,
                    lease_ms=lease_ms,
                    hinted=hinted,
                    name=name,
                    waiter=self._runtime.wakes.name,
                )
                for claim, messages in whole:
                    self._start(held, claim, messages)
            if whole or not claimed or not left:
                break
            hinted = 0  # those were set aside: the next ones must not wait for that
        self._has_claimed = self._has_claimed or bool(whole)
        self.begun.set()
        held.current.has_more = left > 0
        if left:
            self._is_wanted = True
            self._recruit()
        return len(whole)

    def _start(
        self, held: HeldTask, claim: Claim, messages: Sequence[Message]
    ) -> asyncio.Task[None]:
        self._places.weigh(held.current, claim.window.record.bytes)
        task = asyncio.create_task(self._process(held, claim, messages), name=claim.window.id)
        self._active[task] = (claim, held)
        task.add_done_callback(self._note_end)

        def lost() -> None:
            if not task.done():
                _log.warning("window %s: lost to another worker", claim.window.id)
                self._let_off.add(task)
                task.cancel()

        lease_ms = held.current.lease_ms
        self._runtime.leases.hold(self._scope, claim, lease_ms, lost)
        return task

    async def _process(self, held: HeldTask, claim: Claim, messages: Sequence[Message]) -> None:
        """Process a window with the task as it was opened under."""
        try:
            ready, config = held.current, claim.window.record.config
            if config not in ("", held.meaning):
                ready = await held.of(config)
        except ConfigError as error:
            await self._trouble.release_unusable(claim, error)
            return
        processor = self._processors.get(ready)
        if processor is None:

            async def pause(reason: str) -> None:
                await self._trouble.pause(held, reason)

            processor = WindowProcessor(ready, self._claims, pause, ready.refusals)
            self._processors[ready] = processor
        shown = self._runtime.host.began(self._scope, claim, len(messages))
        end = None
        try:
            end = await processor.process(claim, messages)
        finally:
            if shown is not None:
                shown.ended(end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """A window is through: note what went wrong, and let the next one have its place."""
        claim, held = self._active.pop(task)
        if task.cancelled() and task not in self._let_off:
            self._runtime.note_cancelled(f"window {claim.window.id}")
        self._let_off.discard(task)
        self._runtime.leases.drop(self._scope, claim)
        self._places.give_back(held.current, size=claim.window.record.bytes)
        self._release_unused(held)
        self._changed.set()
        error = task.exception() if not task.cancelled() else None
        if error is None:
            return
        is_away = isinstance(error, UnavailableError)
        if is_away:
            _log.warning("window %s waits: %s", claim.window.id, error)
        else:
            _log.error("window %s was broken off", claim.window.id, exc_info=error)
        if not self._runtime.closing:
            self._runtime.begin(
                self._trouble.let_go(claim, counts=not is_away), f"letting {claim.window.id} go"
            )

    async def _wait(self, timeout_s: float | None = None) -> None:
        """Wait until a window is through, a message comes or the process is about to end."""
        self._changed.clear()
        if timeout_s is None:
            await self._changed.wait()
        else:
            await wait_for_event(self._changed, timeout_s)

    @property
    def _goes_on(self) -> bool:
        return self._is_wanted and not self._runtime.closing

    def _end(self) -> None:
        if self._runtime.partitions.get(self._scope) is self:
            del self._runtime.partitions[self._scope]
        self.begun.set()

    # --- whether to claim, and how many ---

    async def _hold(self) -> HeldTask | None:
        """The task as it is now; None when its windows have to wait, or there are none."""
        catalogue = self._runtime.catalogue
        if self._scope[:2] not in catalogue.entries and not await self._are_ready():
            return None
        if await self._is_paused():
            return None
        try:
            held = await catalogue.hold(self._scope, await self._claims.task_config())
        except ConfigError as error:
            if await self._claims.waiting():
                await self._trouble.tell_unusable(mask(str(error)))
            return None
        if self._scope in self._runtime.unusable:
            await self._trouble.tell_usable()
        return held

    async def _are_ready(self) -> bool:
        """Whether there is anything to claim: no task is opened for a hint that is old."""
        if await self._claims.has_ready():
            return True
        hinted, self._hinted = self._hinted, 0
        _, left = await self._claims.claim(0, lease_ms=0, hinted=hinted)
        return left > 0 or self._claims.suspected > 0

    async def _is_paused(self) -> bool:
        product, task, _ = self._scope
        pauses, self._pause_asked_s = self._runtime.pauses, time.monotonic()
        if self._pause_asked_s < pauses.none_until_s:
            return False
        return await pauses.stops(product, task)

    def _is_worth_a_claim(self, ready: ReadyTask) -> bool:
        """Whether half of the places are free, or any for a while: short windows go in batches."""
        waited_s = time.monotonic() - self._claimed_s
        return (
            not self._active or 2 * self._places.free(ready) >= ready.limit or waited_s >= _GATHER_S
        )

    async def _may_claim(self, held: HeldTask) -> bool:
        """Whether windows may be started now, after what may have been a long wait for places."""
        now_s, guard = time.monotonic(), held.current.guard
        if now_s - self._pause_asked_s >= _GATHER_S and await self._is_paused():
            self._leave_it()
            return False
        if now_s >= guard.free_until_s and (wait_ms := await guard.wait_ms()):
            self._leave_it()  # beat comes back when the model may be called
            await self._runtime.schedule.hint_again(self._scope, wait_ms)
            return False
        return True

    def _leave_it(self) -> None:
        """Claim no more until a message comes."""
        self._is_wanted = False

    async def _wait_for_places(self, ready: ReadyTask) -> int:
        self.begun.set()
        telling = asyncio.create_task(self._tell_others())
        try:
            return await self._places.take(ready, _MOST_AT_ONCE)
        finally:
            telling.cancel()

    async def _tell_others(self) -> None:
        """While there is no place here another process may have one."""
        wait_s = _HAND_BACK_S
        while True:
            await asyncio.sleep(wait_s)
            if self._runtime.may_hand_back():
                self._runtime.hints.send(self._scope, self._hinted, always=True)
                self._hinted = 0
                wait_s *= 2

    def _recruit(self) -> None:
        """There is more than one claim takes: other processes may help."""
        if time.monotonic() - self._recruited_s >= _RECRUIT_S:
            self._recruited_s = time.monotonic()
            self._runtime.hints.send(self._scope, 0, always=True)

    def _release_unused(self, held: HeldTask) -> None:
        """Let go of a task that no window is processed with, and none is claimed for."""
        if held is not self._held and all(other is not held for _, other in self._active.values()):
            held.release()

    # --- out of the ordinary ---

    async def _claim_alone(self, held: HeldTask) -> None:
        """Process one window that may be what its worker died of, and nothing else meanwhile."""
        self.begun.set()
        lease_ms = held.current.lease_ms
        async with self._places.alone(held.current, _ALONE_S) as is_alone:
            if not is_alone:
                await self._runtime.schedule.hint_again(self._scope, _ALONE_LATER_MS)
                return
            task = None
            try:
                if not await self._may_claim(held):
                    return
                with self._runtime.leases.claiming(self._scope, lease_ms) as name:
                    whole, _, left = await self._claims.claim_whole(
                        1, lease_ms=lease_ms, alone=True, name=name
                    )
                    for claim, messages in whole:
                        task = self._start(held, claim, messages)
            finally:
                if task is None:
                    self._places.give_back(held.current)
            if left or self._claims.suspected:
                self._is_wanted = True
            if task is not None:
                self._has_claimed = True
                await asyncio.wait({task})

    async def _hand_back(self) -> None:
        """Let go of the windows, so that another worker has them at once; no attempt is counted."""
        claims = [claim for claim, _ in self._active.values()]
        self._let_off.update(self._active)
        await end(*self._active)
        await self._trouble.hand_back(claims)

    @cached_property
    def _trouble(self) -> PartitionTrouble:
        return PartitionTrouble(self._runtime, self._claims)
