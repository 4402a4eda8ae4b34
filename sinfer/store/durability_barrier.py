"""Acknowledging no message before it is kept: an acknowledgement cannot be taken back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sinfer.aio.cancel import end
from sinfer.errors import StaleTokenError, UnavailableError
from sinfer.store.durability import Durability

if TYPE_CHECKING:
    from sinfer.store.partition.writer import PartitionWriter

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
"""How soon Redis is asked once more where it gave no answer."""

_LAST_S = 2.0
"""How long the end of a partition waits for that; what is left then comes again."""


class DurabilityBarrier:
    """Holds acknowledgements of a partition back until what they stand for is kept.

    They pass in their order. Reading and storing go on meanwhile.

    Args:
        durability: asks Redis.
        writer: writes the partition.
        lost: is told when nothing is acknowledged any more, as when the store has less than was
            stored.
    """

    def __init__(
        self,
        durability: Durability,
        writer: PartitionWriter,
        lost: Callable[[BaseException], None],
    ) -> None:
        self._durability = durability
        self._writer = writer
        self._lost = lost
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._stored = 0
        self._opening: asyncio.Task[None] | None = None

    async def pass_on(self, acknowledge: Callable[[], Awaitable[None]]) -> None:
        """Acknowledge when all that the writer has stored so far is kept.

        At once, where Redis does not tell and nothing else waits.
        """
        if self._opening is not None and self._opening.done():
            self._opening = None
        if not self._durability.confirms and self._opening is None:
            await acknowledge()
            return
        self._waiting.append(acknowledge)
        self._stored = self._writer.commits
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self._lost(error)

    async def _open(self) -> None:
        while self._waiting:
            passing, stored = len(self._waiting), self._stored
            try:
                is_kept = await self._durability.has(self._writer, stored)
            except UnavailableError as error:
                _log.debug("%s: not acknowledged yet: %s", self._writer.scope, error)
                await asyncio.sleep(_RETRY_S)
                continue
            if not is_kept:
                self._waiting.clear()
                raise StaleTokenError(
                    f"{self._writer.scope}: Redis has less than was stored, as after a power cut or"
                    " a failover, or another ingestor writes by now; nothing of it is acknowledged"
                )
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
