"""Noticing that a consumer delivers no more, since open windows hold all that it gives out.

With ``ack: done`` a message is acknowledged when its window is done. Windows that need more
messages than the consumer's ``max_ack_pending`` to come to their end wait forever.
"""

from __future__ import annotations

import logging
import time

from sinfer.errors import StoreFullError, UnavailableError
from sinfer.logging.troubles import PartitionTroubles
from sinfer.source.source import Source
from sinfer.store.partition.writer import PartitionWriter

_log = logging.getLogger(__name__)

_QUIET_S = 5.0
"""Nothing has come for so long when it is told."""


class StallNotice:
    """Tells, in the log and for `sinfer status`, when a partition stands still, and how to help it.

    Args:
        writer: writes the partition.
        troubles: those of the partition, for what keeps it from being looked at.
    """

    def __init__(self, writer: PartitionWriter, troubles: PartitionTroubles) -> None:
        self._troubles = troubles
        self._writer = writer
        self._came_s = time.monotonic()
        self._told: str | None = None  # what an earlier ingestor told is not known

    async def look(self, source: Source, *, came: bool, pending: int) -> None:
        """See whether the partition goes on.

        Args:
            source: of the partition.
            came: whether a message came since the last look.
            pending: windows that are closed and not done: they are about to free messages.
        """
        now_s = time.monotonic()
        if came:
            self._came_s = now_s
        is_quiet = not pending and now_s - self._came_s >= _QUIET_S
        if is_quiet and self._told:
            return
        try:
            text = await self._reason(source) if is_quiet else ""
            if text != self._told:
                await self._tell(text)
        except (UnavailableError, StoreFullError) as error:
            self._troubles.tell("stall", str(error))
        else:
            self._troubles.over("stall")

    async def _reason(self, source: Source) -> str:
        """Why nothing comes and no window ends; empty when that is not so."""
        withheld = await source.withheld()
        if withheld is None:
            return ""
        if await self._writer.waits_for_the_clock():
            return ""
        return (
            f"stands still: open windows hold {withheld.unacknowledged} messages, and consumer"
            f" {withheld.consumer!r} gives out no more before they are done (ack: done);"
            f" {withheld.messages} wait. Raise its max_ack_pending, make the windows smaller, or"
            " use ack: stored"
        )

    async def _tell(self, text: str) -> None:
        await self._writer.note_stall(text)
        if text:
            _log.warning("%s: %s", self._writer.scope, text)
        elif self._told:
            _log.info("%s: goes on", self._writer.scope)
        self._told = text
