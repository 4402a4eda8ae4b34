"""A process says that it is there, from a thread of its own: whatever its work does meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sinfer.aio.wait import wait_for_event
from sinfer.errors import SinferError
from sinfer.logging.throttled import Throttled
from sinfer.store.boards.running_processes import SIGN_S, Presence, PresenceBoard
from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_END_S = 3.0


class SignOfLife:
    """Gives signs of life until it is closed. A frozen process gives none.

    Args:
        describe: what to say of the process; None to say nothing for now.
        also: is called with the store after each sign.
        open_store: makes the connection of the thread.
    """

    def __init__(
        self,
        describe: Callable[[], Presence | None],
        also: Callable[[Store], Awaitable[None]] | None = None,
        open_store: Callable[[], Store] = Store.from_settings,
    ) -> None:
        self._describe = describe
        self._also = also
        self._open_store = open_store
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._refused = Throttled(_log)
        self._thread = threading.Thread(target=self._run, name="sinfer-alive", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the sign back and end the thread."""
        self._ending.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._woken.set)
        self._thread.join(_END_S)

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                asyncio.run(self._keep())
            except BaseException:  # a hook may have got at it
                _log.exception("signs of life were broken off, and begin again")
                self._ending.wait(SIGN_S)

    async def _keep(self) -> None:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        store = self._open_store()
        board = PresenceBoard(store)
        try:
            while not self._ending.is_set():
                await self._sign(store, board)
                await wait_for_event(self._woken, SIGN_S)
            with suppress(SinferError):
                await board.leave()
        finally:
            await store.aclose()

    async def _sign(self, store: Store, board: PresenceBoard) -> None:
        try:
            presence = self._describe()
            if presence is not None:
                await board.tell(presence)
            if self._also is not None:
                await self._also(store)
        except SinferError as error:
            self._refused.tell(f"no sign of life: {error}", level=logging.INFO)
        else:
            self._refused.over()
