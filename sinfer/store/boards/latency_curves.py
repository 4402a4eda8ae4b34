"""How long calls of each endpoint take, as all workers together see it; ingestors ask."""

from __future__ import annotations

import uuid
from dataclasses import fields
from typing import TYPE_CHECKING

from sinfer.store import keys
from sinfer.store.keys import EndpointKeys
from sinfer.store.lua import Argument
from sinfer.windows.latency_curve import CallSums

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_MOST_WEIGHT = 200
"""Calls that a curve is fitted to: those before them hardly count."""

_NAMES = tuple(field.name for field in fields(CallSums))


class LatencyCurves:
    """Sums over the calls of endpoints.

    All of it raises ``UnavailableError`` when Redis cannot be reached, and ``StoreFullError`` when
    it takes nothing more.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def note(self, endpoint: str, calls: CallSums) -> CallSums:
        """Add calls; returns the sums as they are then."""
        words: list[Argument] = [_MOST_WEIGHT]
        for name, value in zip(_NAMES, calls.values(), strict=True):
            words += [name, f"{value:.6f}"]
        endpoint_keys = EndpointKeys(endpoint)
        asked = endpoint_keys.asked(uuid.uuid4().hex)
        sums = await self._store.run("note_call_latency", [endpoint_keys.curve], words, asked=asked)
        return _read(sums)

    async def note_endpoint(self, product: str, task: str, endpoint: str) -> None:
        """Note which endpoint a task calls: only workers make its inference client."""
        await self._store.ask(self._store.redis.hset(keys.endpoints(product), task, endpoint))

    async def of_task(self, product: str, task: str) -> CallSums:
        """The sums over the calls of the endpoint that a task calls; nothing where it is not
        known."""
        redis = self._store.redis
        endpoint = await self._store.ask(redis.hget(keys.endpoints(product), task))
        if endpoint is None:
            return CallSums()
        curve = EndpointKeys(endpoint.decode(errors="replace")).curve
        return _read(await self._store.ask(redis.hmget(curve, list(_NAMES))))


def _read(sums: list[bytes | None]) -> CallSums:
    words = (word.decode(errors="replace") if word else "" for word in sums)
    return CallSums.read(dict(zip(_NAMES, words, strict=True)))
