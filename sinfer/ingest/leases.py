"""Keeping the writer leases of all partitions of a process, in one round trip for all that are due.

A partition that commits renews its lease by that; only quiet ones are due here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.windows.store import Store
from sinfer.windows.writer import PartitionWriter

_log = logging.getLogger(__name__)

LEASE_MS = 7_000
"""How long a silent ingestor keeps a partition; with its polling, take-over is under 10 s."""

_RENEW_S = LEASE_MS / 3000
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
        """Somebody else holds the lease by now."""


class LeaseKeeper:
    """Renews the leases of a process.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._holders: set[Leaseholder] = set()
        self._renewing = asyncio.Lock()
        self._has_outage = False

    def add(self, holder: Leaseholder) -> None:
        """Keep a lease that was just taken."""
        self._holders.add(holder)

    async def remove(self, holder: Leaseholder) -> None:
        """Keep it no more. Returns when nothing is under way that could take it again."""
        async with self._renewing:
            self._holders.discard(holder)

    async def renew(self) -> None:
        """Renew what is due. While Redis is away, leases run out, which commits then notice."""
        async with self._renewing:
            due_s = time.monotonic() - _RENEW_S
            due = [holder for holder in self._holders if holder.renewed_s <= due_s]
            try:
                for first in range(0, len(due), _AT_ONCE):
                    await self._renew(due[first : first + _AT_ONCE])
            except UnavailableError as error:
                if not self._has_outage:
                    _log.warning("leases are not renewed: %s", error)
                self._has_outage = True
            else:
                self._has_outage = False

    async def _renew(self, holders: list[Leaseholder]) -> None:
        asked_s = time.monotonic()
        replies = await self._store.run_many(
            "acquire", [holder.writer.lease_call for holder in holders]
        )
        for holder, reply in zip(holders, replies, strict=True):
            scope = holder.writer.scope
            if isinstance(reply, Exception):
                _log.warning("%s: lease not renewed: %s", scope, reply)
                continue
            try:
                if holder.writer.answered(reply):
                    raise StaleTokenError(f"{scope} is written by another ingestor by now")
            except StaleTokenError as error:
                # Were it kept, one that is slow to end would hold the next lease as well.
                self._holders.discard(holder)
                holder.lease_lost(error)
            else:
                holder.renewed_s = asked_s
