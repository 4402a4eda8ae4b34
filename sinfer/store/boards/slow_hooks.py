"""Which code of a product keeps a worker process from going on, for people to see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from sinfer.store.keys import SLOW_HOOKS

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_SILENT_AFTER_MS = 15_000
"""A process that has said nothing for so long is gone, or frozen."""

_KEPT_S = 60


class SlowHook(msgspec.Struct, array_like=True, frozen=True):
    """A call that takes long.

    Attributes:
        task: ``product/task``; empty where no hook is known that the process is in.
        hook: the function.
        since_ms: when it began, milliseconds since the epoch by the store's clock.
        blocks: whether nothing else of the process goes on meanwhile.
        process: host and process id.
        seen_ms: when that process last said so.
    """

    task: str
    hook: str
    since_ms: int
    blocks: bool
    process: str
    seen_ms: int

    @property
    def text(self) -> str:
        """What to tell, with the remedy."""
        seconds = max(0, self.seen_ms - self.since_ms) // 1000
        if self.blocks:
            return (
                f"{self.hook} has blocked worker process {self.process} for {seconds}s, and nothing"
                " else goes on there; make it 'async def' where it waits, give what it calls a"
                " time-out, or end the process"
            )
        return (
            f"{self.hook} has been waiting for something for {seconds}s in worker process"
            f" {self.process}; give what it awaits a time-out"
        )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[SlowHook])


class SlowHookBoard:
    """What the worker processes say of slow hooks; nothing is decided by it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def tell(self, process: str, slow: Sequence[SlowHook]) -> None:
        """Say what is slow in a process now; nothing is, when there is none."""
        redis = self._store.redis
        if slow:
            await self._store.ask(redis.hset(SLOW_HOOKS, process, _encoder.encode(slow)))
            await self._store.ask(redis.expire(SLOW_HOOKS, _KEPT_S))
        else:
            await self._store.ask(redis.hdel(SLOW_HOOKS, process))

    async def read(self, now_ms: int) -> list[SlowHook]:
        """What is slow in all processes, the longest first."""
        found: list[SlowHook] = []
        for blob in await self._store.ask(self._store.redis.hvals(SLOW_HOOKS)):
            try:
                found += _decoder.decode(blob)
            except msgspec.DecodeError:  # of another version
                continue
        alive = [slow for slow in found if now_ms - slow.seen_ms < _SILENT_AFTER_MS]
        return sorted(alive, key=lambda slow: slow.since_ms)
