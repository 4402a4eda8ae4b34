"""Renewing the leases of a process from a thread of its own, whatever its event loop does.

A hook that blocks the loop, for however long, costs no window: the process lives, and works on what
it holds. A process that is frozen renews nothing, as its threads are frozen too. The thread also
tells which hooks take long, for ``sinfer status``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sinfer.errors import SinferError
from sinfer.hooks import call as hooks
from sinfer.logging.throttled import Throttled
from sinfer.store.boards.slow_hooks import SlowHook, SlowHookBoard
from sinfer.store.connection import Store
from sinfer.store.work.claim import Claim
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_LOOK_S = 0.25
"""How often it is looked what has to be renewed; the shortest lease is a second."""

_TELL_S = 1.0
_BLOCKS_S = 2.0
"""A hook that has a thread for itself for so long is told of."""
_WAITS_S = 60.0
"""A hook that awaits something for so long is told of."""


@dataclass(slots=True)
class _Held:
    """A window that this process works on.

    Attributes:
        scope: its partition.
        claim: the claim.
        lease_ms: how long its lease lasts.
        lost: is called on the event loop when another worker has the window.
        renewed_s: when the lease was last renewed, by the monotonic clock.
    """

    scope: Scope
    claim: Claim
    lease_ms: int
    lost: Callable[[], None]
    renewed_s: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.renewed_s >= self.lease_ms / 3000 - _LOOK_S


@dataclass(slots=True)
class _Claiming:
    """A claim whose windows are not held yet: Redis has given them, but who asked is behind.

    Attributes:
        scope: the partition.
        lease_ms: how long the leases last.
        renewed_s: when the claim began, or was last renewed, by the monotonic clock.
    """

    scope: Scope
    lease_ms: int
    renewed_s: float = field(default_factory=time.monotonic)


class LeaseKeeper:
    """Keeps leases until they are dropped.

    Args:
        loop: the event loop that works on the windows.
        loop_thread: the thread that it runs in.
        open_store: makes a connection of the thread's own.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        loop_thread: int | None,
        open_store: Callable[[], Store] = Store.from_settings,
    ) -> None:
        self._loop = loop
        self._loop_thread = loop_thread
        self._open_store = open_store
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self._held: dict[tuple[Scope, str], _Held] = {}
        self._claiming: dict[str, _Claiming] = {}
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._told = False
        self._told_s = 0.0
        self._not_renewed = Throttled(_log)
        self._not_told = Throttled(_log)

    def hold(self, scope: Scope, claim: Claim, lease_ms: int, lost: Callable[[], None]) -> None:
        """Renew the lease of a window from now on.

        Args:
            scope: its partition.
            claim: the claim.
            lease_ms: how long its lease lasts.
            lost: is called on the event loop when another worker has the window.
        """
        with self._guard:
            self._held[scope, claim.window.id] = _Held(scope, claim, lease_ms, lost)
        self._begin()

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="sinfer-leases", daemon=True)
            thread.start()
            self._thread = thread  # not before: there may be no room for a thread now

    @contextmanager
    def claiming(self, scope: Scope, lease_ms: int) -> Iterator[str]:
        """Renew what a claim is given from then on, until it is held: a hook may block the event
        loop before the answer is read.

        Args:
            scope: the partition.
            lease_ms: how long the leases last.

        Returns:
            What to call the claim.
        """
        name = uuid.uuid4().hex
        self._claiming[name] = _Claiming(scope, lease_ms)
        self._begin()
        try:
            yield name
        finally:
            del self._claiming[name]

    def drop(self, scope: Scope, claim: Claim) -> None:
        """The window is done, or handed back."""
        with self._guard:
            held = self._held.get((scope, claim.window.id))
            if held is not None and held.claim.token == claim.token:
                del self._held[scope, claim.window.id]

    def close(self) -> None:
        """Renew nothing any more, and end the thread."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(5)

    # --- the thread ---

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                asyncio.run(self._keep())
            except BaseException:  # a hook may have got at it: no lease must depend on that
                _log.exception("keeping leases was broken off, and begins again")
                self._ending.wait(_LOOK_S)

    async def _keep(self) -> None:
        store = self._open_store()
        try:
            while not self._ending.is_set():
                await self._renew(store)
                await self._tell(store)
                await asyncio.sleep(_LOOK_S)
            if self._told:
                await self._say(store, [])
        finally:
            await store.aclose()

    async def _renew(self, store: Store) -> None:
        with self._guard:
            due = [held for held in self._held.values() if held.is_due]
        groups: defaultdict[tuple[Scope, int], list[_Held]] = defaultdict(list)
        for held in due:
            groups[held.scope, held.lease_ms].append(held)
        await self._renew_claiming(store)
        if groups:
            await asyncio.gather(
                *(self._renew_some(store, *of, some) for of, some in groups.items())
            )

    async def _renew_claiming(self, store: Store) -> None:
        now_s = time.monotonic()
        for name, found in self._claiming.copy().items():
            if now_s - found.renewed_s < found.lease_ms / 3000 - _LOOK_S:
                continue
            try:
                claims = PartitionClaims(store, found.scope)
                await claims.renew_given(name, lease_ms=found.lease_ms)
            except SinferError as error:
                self._not_renewed.tell(
                    f"{found.scope}: leases not renewed: {error}", problem=str(error)
                )
                return
            found.renewed_s = now_s

    async def _renew_some(
        self, store: Store, scope: Scope, lease_ms: int, some: list[_Held]
    ) -> None:
        now_s = time.monotonic()
        try:
            renewed = await PartitionClaims(store, scope).renew(
                [held.claim for held in some], lease_ms=lease_ms
            )
        except SinferError as error:
            self._not_renewed.tell(f"{scope}: leases not renewed: {error}", problem=str(error))
            return
        self._not_renewed.over()
        for held, still in zip(some, renewed, strict=True):
            held.renewed_s = now_s
            if not still:
                self.drop(scope, held.claim)
                self._loop.call_soon_threadsafe(held.lost)

    async def _tell(self, store: Store) -> None:
        """Tell of hooks that take long, as long as they do."""
        now_s = time.monotonic()
        if now_s - self._told_s < _TELL_S:
            return
        self._told_s = now_s
        slow = []
        for found in hooks.running():
            blocks = found.blocks == self._loop_thread
            since_s = found.blocks_since_s if blocks else found.began_s
            if found.task and now_s - since_s >= (_BLOCKS_S if blocks else _WAITS_S):
                slow.append((found, since_s, blocks))
        if not slow and not self._told:
            return
        try:
            now_ms = await store.now_ms()
            await self._say(
                store,
                [
                    SlowHook(
                        found.task,
                        found.hook,
                        now_ms - round((now_s - since_s) * 1000),
                        blocks,
                        self._process,
                        now_ms,
                    )
                    for found, since_s, blocks in slow
                ],
            )
        except SinferError as error:
            self._not_told.tell(f"slow hooks are not told: {error}")

    async def _say(self, store: Store, slow: list[SlowHook]) -> None:
        await SlowHookBoard(store).tell(self._process, slow)
        self._told = bool(slow)
