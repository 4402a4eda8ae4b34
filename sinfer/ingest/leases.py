"""Keeping the writer leases of all partitions of a process, in one round trip for all that are due.

A partition that commits renews its lease by that; only quiet ones, and those whose process is busy
with something else, are due here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.logging.throttled import Throttled
from sinfer.store.connection import Store
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.partition.writer_lease import renew_leases
from sinfer.store.schedule import Schedule

_log = logging.getLogger(__name__)

LEASE_MS = 7_000
"""How long a silent ingestor keeps a partition; with its polling, take-over is under 10 s."""

_RENEW_S = LEASE_MS / 3000
_REGISTER_S = 10.0
_AT_ONCE = 500


class Leaseholder(Protocol):
    """Who holds the lease of a partition.

    Attributes:
        writer: writes the partition.
        renewed_s: when the lease was last renewed, by the monotonic clock.
    """

    writer: PartitionWriter
    renewed_s: float

    def lease_lost(self, error: StaleTokenError) -> None:
        """Somebody else holds the lease."""


class LeaseKeeper:
    """Renews the leases of a process. It only keeps them: one that was lost or given back is never
    taken again, so holders may come and go on one thread while another renews.

    Args:
        store: the window store, for the thread that renews alone.

    Attributes:
        tell: calls a function where the holders live.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._holders: set[Leaseholder] = set()
        self._not_renewed = Throttled(_log)
        self._registered_s = float("-inf")
        self.tell: Callable[[Callable[[], object]], object] = lambda call: call()

    @property
    def holders(self) -> list[Leaseholder]:
        """Who holds a lease at the moment."""
        return list(self._holders)

    def add(self, holder: Leaseholder) -> None:
        """Keep a lease that was just taken."""
        self._holders.add(holder)

    def remove(self, holder: Leaseholder) -> None:
        """Keep it no more."""
        self._holders.discard(holder)

    async def renew(self) -> None:
        """Renew what is due. While Redis is unavailable, leases run out; commits notice that."""
        due_s = time.monotonic() - _RENEW_S
        due = [holder for holder in self.holders if holder.renewed_s <= due_s]
        try:
            for first in range(0, len(due), _AT_ONCE):
                await self._renew(due[first : first + _AT_ONCE])
            await self._register()
        except UnavailableError as error:
            self._not_renewed.tell(f"leases are not renewed: {error}")
        else:
            self._not_renewed.over()

    async def _register(self) -> None:
        """Have beat and the audit know all partitions again, should that key have been deleted."""
        scopes = [holder.writer.scope for holder in self._holders]
        if scopes and time.monotonic() >= self._registered_s + _REGISTER_S:
            await Schedule(self._store).register(*scopes)
            self._registered_s = time.monotonic()

    async def _renew(self, holders: list[Leaseholder]) -> None:
        asked_s = time.monotonic()
        renewed = await renew_leases(self._store, [holder.writer for holder in holders])
        for holder, lease in zip(holders, renewed, strict=True):
            scope = holder.writer.scope
            if lease.problem is not None:
                _log.warning("%s: lease not renewed: %s", scope, lease.problem)
            elif lease.is_held:
                holder.renewed_s = max(holder.renewed_s, asked_s)
            elif holder in self._holders:
                self._holders.discard(holder)
                owner = lease.owner
                whose = f"is written by {owner} by now" if owner else "has no such lease any more"
                self.tell(partial(holder.lease_lost, StaleTokenError(f"{scope} {whose}")))
