"""Partitions that beat cannot look after, and what is wrong with each, for people and for beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from sinfer.errors import StoreError
from sinfer.store import keys

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_FIRST_WAIT_MS = 1_000
_LONGEST_WAIT_MS = 60_000


class Fault(msgspec.Struct, frozen=True):
    """Why a partition cannot be looked after.

    Attributes:
        error: what was wrong the last time, in one line.
        since_ms: the first failure in a row, milliseconds since the epoch.
        failures: how many there were in a row.
        next_ms: when beat tries again.
    """

    error: str
    since_ms: int
    failures: int
    next_ms: int


class FaultBoard:
    """The faults of all partitions, by the names that Redis has of these."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self) -> dict[str, Fault]:
        """All faults; what is no fault there is left out."""
        try:
            found = await self._store.ask(self._store.redis.hgetall(keys.FAULTS))
        except StoreError:  # of another type: nobody needs what is there
            await self._store.ask(self._store.redis.delete(keys.FAULTS))
            return {}
        faults = {}
        for name, blob in found.items():
            try:
                fault = msgspec.json.decode(blob, type=Fault)
            except msgspec.MsgspecError:
                continue
            faults[name.decode(errors="backslashreplace")] = fault
        return faults

    async def note(self, name: str, error: str, before: Fault | None, now_ms: int) -> Fault:
        """Note a failure; the more there are in a row, the longer beat waits.

        Args:
            name: of the partition, as Redis has it.
            error: what is wrong.
            before: the fault as it was.
            now_ms: the store's clock.
        """
        failures = 1 if before is None else before.failures + 1
        wait_ms = min(_LONGEST_WAIT_MS, _FIRST_WAIT_MS * 2 ** min(failures - 1, 10))
        since_ms = now_ms if before is None else before.since_ms
        fault = Fault(error, since_ms, failures, now_ms + wait_ms)
        blob = msgspec.json.encode(fault)
        await self._store.ask(self._store.redis.hset(keys.FAULTS, name, blob))
        return fault

    async def clear(self, names: Iterable[str]) -> None:
        """These are looked after again, or are not there any more."""
        if gone := list(names):
            await self._store.ask(self._store.redis.hdel(keys.FAULTS, *gone))
