"""Messages that a consumer delivered to somebody who is gone: read from the stream itself."""

from __future__ import annotations

import logging
import time

from nats.aio.client import Client

from sinfer.errors import UnavailableError
from sinfer.nats.stream_messages import StreamMessages
from sinfer.source.delivery_tracker import DeliveryTracker
from sinfer.source.removals import Removals
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

_PATIENCE_S = 15.0
"""For so long the stream is asked without an answer."""


class Backfill:
    """What is missing, and how it is fetched, in order.

    Args:
        client: the connection.
        stream: name of the stream.
        consumer: the consumer, for log lines.

    Attributes:
        where: the consumer and its stream, for log lines.
        ranges: what is missing: inclusive ranges of stream sequences; all before them is read.
    """

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._messages = StreamMessages(client, stream)
        self.where = f"consumer {consumer} of stream {stream}"
        self.ranges: list[tuple[int, int]] = []
        self._unanswered_since: float | None = None

    async def fetch(
        self,
        tracker: DeliveryTracker,
        removals: Removals | None,
        filters: list[str],
        limit: int,
    ) -> tuple[tuple[int, int], list[Message]] | None:
        """Read a part of what is missing and count it as read.

        A stream that does not answer, as when the permission to read from it lacks, is given up
        after a while: then the messages come again after the consumer's ``ack_wait``.

        Args:
            tracker: told what was read.
            removals: told what the stream does not have any more; None where that was read before.
            filters: the subjects that the consumer delivers; empty for all.
            limit: about how many messages to read.

        Returns:
            The range that was read, and its messages in the order of the stream; None when there
            was no answer.

        Raises:
            SourceError: the stream does not exist.
        """
        first, last = self.ranges[0]
        try:
            messages, through = await self._messages.between(first, last, filters, limit)
        except UnavailableError as error:
            now = time.monotonic()
            self._unanswered_since = self._unanswered_since or now
            if now - self._unanswered_since > _PATIENCE_S:
                _log.warning(
                    "%s: messages %d to %d cannot be read from the stream (%s); they come again"
                    " later, behind newer ones", self.where, first, last, error,
                )  # fmt: skip
                tracker.give_up(last)
                self._unanswered_since = None
                del self.ranges[0]
            return None
        self._unanswered_since = None
        tracker.fill(first, through)
        if removals is not None and removals.is_exact:
            for message in messages:
                removals.note(first, message.stream_seq - 1)
                first = message.stream_seq + 1
            removals.note(first, through)
        if through < last:
            self.ranges[0] = (through + 1, last)
        else:
            del self.ranges[0]
        return (first, through), messages
