"""Acknowledging no message before it is on Redis' disk: an acknowledgement cannot be taken back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sinfer.aio.cancel import end
from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.store.durability import Disk
from sinfer.store.partition.writer import PartitionWriter

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
_LAST_S = 2.0
"""How long the end of a partition waits for the disk; what is left then comes again."""


class AckGate:
    """Holds acknowledgements back until what they stand for is on Redis' disk, in their order.

    Reading and storing go on meanwhile.

    Args:
        disk: Redis' disk.
        writer: writes the partition.
        lost: is told when the store has less than was stored; nothing is acknowledged any more.
    """

    def __init__(
        self, disk: Disk, writer: PartitionWriter, lost: Callable[[StaleTokenError], None]
    ) -> None:
        self._disk = disk
        self._writer = writer
        self._lost = lost
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._stored = 0
        self._opening: asyncio.Task[None] | None = None

    async def pass_on(self, acknowledge: Callable[[], Awaitable[None]]) -> None:
        """Acknowledge when all that the writer has stored by now is on the disk.

        At once, where Redis does not tell and nothing else waits.
        """
        if self._opening is not None and self._opening.done():
            opening, self._opening = self._opening, None
            opening.result()
        if not self._disk.confirms and self._opening is None:
            await acknowledge()
            return
        self._waiting.append(acknowledge)
        self._stored = self._writer.commits
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        while self._waiting:
            passing, stored = len(self._waiting), self._stored
            try:
                await self._disk.written()
                kept = await self._writer.still_has(stored)
            except UnavailableError as error:
                _log.debug("%s: not acknowledged yet: %s", self._writer.scope, error)
                await asyncio.sleep(_RETRY_S)
                continue
            if not kept:
                self._waiting.clear()
                self._lost(
                    StaleTokenError(
                        f"{self._writer.scope}: Redis has less than was stored, as after a power"
                        " cut, or another ingestor writes by now; nothing of it is acknowledged"
                    )
                )
                return
            for acknowledge in self._waiting[:passing]:
                await acknowledge()
            del self._waiting[:passing]

    async def aclose(self) -> None:
        """Wait a moment for what is on its way, and drop the rest."""
        if self._opening is not None:
            done, _ = await asyncio.wait({self._opening}, timeout=_LAST_S)
            await end(self._opening)
            if not done:
                _log.info("%s: some messages come again", self._writer.scope)
