"""Waking worker processes that wait: for windows, or for a place to call a model.

A wake is quicker than a Celery message, and cheaper.

A claim that finds fewer windows than it has places for leaves the channel of its process with the
partition. Whatever makes windows ready next publishes on that of the process that waits longest, in
the same script, and no Celery message is sent. Where nobody listens (any more), one is. So a lost
wake is no more than a lost message: beat sends one when the windows are still there after a second.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sinfer.errors import AccessError, SinferError
from sinfer.logging.throttled import Throttled
from sinfer.store.keys import WAKE
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

WAIT_MS = 10_000
"""How long a process waits for windows of a partition at most; then a message has to be sent."""

_AGAIN_S = 1.0
"""When a lost subscription is made again."""

_FORBIDDEN_S = 60.0
"""When a user that may not subscribe tries again: somebody may allow it."""

_QUIET_S = 5.0
"""After so long without a word the connection is tried, and given up as long after that."""


class WakeListener:
    """Hears of windows that this process waits for. Use it on one event loop.

    Args:
        store: Redis.
        wake: is called with the partition, and with how many windows are ready that nobody else was
            told of.

    Attributes:
        name: of its channel, which claims leave with partitions; empty while nobody listens.
        expected: what is set when a place at an endpoint is given to a holder, by its name.
    """

    def __init__(self, store: Store, wake: Callable[[Scope, int], None]) -> None:
        self._store = store
        self._wake = wake
        self._channel = f"{WAKE}{os.getpid()}-{uuid.uuid4().hex[:16]}"
        self._forbidden = Throttled(_log)
        self.name = ""
        self.expected: dict[str, asyncio.Event] = {}

    async def run(self) -> None:
        """Listen until this is cancelled. While Redis is unavailable, or forbids it, it tries again
        now and then."""
        while True:
            again_s = _AGAIN_S
            try:
                async with self._store.errors():
                    await self._listen()
            except AccessError as error:
                again_s = _FORBIDDEN_S
                self._forbidden.tell(f"windows are told of by Celery messages alone: {error}")
            except SinferError as error:
                _log.debug("no wakes for now: %s", error)
            finally:
                self.name = ""
            await asyncio.sleep(again_s)

    async def _listen(self) -> None:
        async with self._store.redis.pubsub() as pubsub:
            await pubsub.subscribe(self._channel)
            is_asked = False
            while True:
                message = await pubsub.get_message(timeout=_QUIET_S)
                if message is None:
                    if is_asked:
                        return
                    await pubsub.ping()
                is_asked = message is None
                if message is not None:
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":
            self.name = self._channel
            self._forbidden.over("this worker is woken for windows")
        elif message["type"] == "message":
            windows, _, partition = message["data"].decode(errors="replace").partition(" ")
            if windows == "place":
                expected = self.expected.get(partition.partition(" ")[0])
                if expected is not None:
                    expected.set()
                return
            try:
                scope, count = Scope.parse(partition), int(windows)
            except ValueError:
                _log.warning("a wake that is none: %r", message["data"][:200])
                return
            self._wake(scope, max(0, count))
