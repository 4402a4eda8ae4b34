"""Messages of a stream by their sequences, as a consumer would have delivered them."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.nats.headers import parse_headers
from sinfer.nats.jetstream_api import JetStreamApi, StoredMessage
from sinfer.types.message import UNREADABLE, Message

_AT_ONCE = 64
_LANES = 8
_ENOUGH_BYTES = 8 * 1024 * 1024


class StreamMessages:
    """Reads single messages of one stream.

    Args:
        client: a connection; not closed here.
        stream: name of the stream.
    """

    def __init__(self, client: Client, stream: str) -> None:
        self.api = JetStreamApi(client, stream)

    async def get(self, seq: int) -> Message | None:
        """A message; None when the stream has it no more, or not yet.

        Raises:
            SourceError: the stream does not exist.
            UnavailableError: no answer.
        """
        stored = await self.api.stored_message({"seq": seq})
        return None if stored is None else _message(stored)

    async def last(self, subject_filter: str) -> Message | None:
        """The last message on a subject; None when there is none."""
        stored = await self.api.stored_message({"last_by_subj": subject_filter})
        return None if stored is None else await self.get(stored.seq)

    async def get_all(
        self, sequences: Iterable[int], progress: Callable[[int], None] = lambda count: None
    ) -> list[Message]:
        """Messages in the order of their sequences.

        Raises:
            SourceError: the stream has some of them no more.
        """
        found: list[Message] = []
        missing: list[int] = []
        wanted = list(sequences)
        for first in range(0, len(wanted), _AT_ONCE):
            part = wanted[first : first + _AT_ONCE]
            for seq, message in zip(part, await asyncio.gather(*map(self.get, part)), strict=True):
                if message is None:
                    missing.append(seq)
                else:
                    found.append(message)
            progress(len(part))
        if missing:
            shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise SourceError(
                f"stream {self.api.stream!r} has {len(missing)} of {len(wanted)} messages no more"
                f" ({shown}): its limits removed them, or it is a work queue"
            )
        return found

    async def between(
        self, first: int, last: int, filters: list[str], limit: int
    ) -> tuple[list[Message], int]:
        """The messages of a range of sequences, or of a part from its start.

        Args:
            first: where to begin.
            last: where to end, inclusive.
            filters: subjects; empty for all.
            limit: end when there are so many, give or take a few; or when they are large.

        Returns:
            The messages in the order of the stream, and the sequence up to which there are no
            others.

        Raises:
            SourceError: the stream does not exist.
            UnavailableError: no answer.
        """
        found: list[Message] = []
        size = 0
        while first <= last and len(found) < limit and size < _ENOUGH_BYTES:
            message = await self._next(first, last, filters)
            if message is None:
                return found, last
            first = message.stream_seq + 1
            until = min(last, message.stream_seq + min(_AT_ONCE, limit - len(found)) - 1)
            wide = -(-(until - first + 1) // _LANES)
            starts = range(first, until + 1, max(1, wide))
            lanes = [self._lane(start, min(until, start + wide - 1), filters) for start in starts]
            part = [message, *(one for lane in await asyncio.gather(*lanes) for one in lane)]
            found += part
            size += sum(len(one.data) for one in part)
            first = until + 1
        return found, first - 1

    async def _lane(self, first: int, last: int, filters: list[str]) -> list[Message]:
        found = []
        while first <= last and (message := await self._next(first, last, filters)) is not None:
            found.append(message)
            first = message.stream_seq + 1
        return found

    async def _next(self, first: int, last: int, filters: list[str]) -> Message | None:
        stored = await self.api.next_message(first, filters)
        return None if stored is None or stored.seq > last else _message(stored)


def _message(stored: StoredMessage) -> Message:
    """The message. What cannot be read of it is no reason to stop: it is told with the message,
    which becomes a dead letter with the bytes that there are."""
    data, headers, time_ns, wrong = stored.data.encode(), b"", 0, ""
    try:
        data = b64decode(stored.data)
        headers = b64decode(stored.hdrs)
        time_ns = parse_time_ns(stored.time)
    except ValueError as error:
        wrong = f"the stream's copy cannot be read: {error}"
    read = parse_headers(headers)
    if wrong:
        read = {**(read or {}), UNREADABLE: wrong}
    return Message(data, stored.subject, read, stored.seq, time_ns)


def parse_time_ns(text: str) -> int:
    """Nanoseconds since the epoch of ``2026-01-31T12:00:00.123456789Z``."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z") if rest else ""
    moment = datetime.fromisoformat(whole.rstrip("Z")).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int(digits.ljust(9, "0") or 0)
