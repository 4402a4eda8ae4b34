"""Telling copies of a result from collisions, where JetStream says that it has a message already.

The acknowledgement names the message that is there. It is looked at: a copy of the result has the
same subject, product, task and window, and the same payload. The payload may differ where the
result may have been written before, as a model need not answer twice in the same way. What cannot
be looked at, since the stream removed it or the user may not read it, counts as a copy in that
case, and as a collision otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

import nats.errors
from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from sinfer.nats.wire import Headed
from sinfer.types.result import WindowResults

_log = logging.getLogger(__name__)

_AT_ONCE = 32
_COMPARED = ("Sinfer-Product", "Sinfer-Task", "Sinfer-Window")


class CopyCheck:
    """Looks at what a stream has. One for each sink.

    Args:
        subject: what the sink publishes to.
        timeout_s: how long to wait for an answer.
        is_mapped: whether the subject may be another one where the stream is.
    """

    def __init__(self, subject: str, timeout_s: float, *, is_mapped: bool = False) -> None:
        self._subject = subject
        self._is_mapped = is_mapped
        self._timeout_s = timeout_s
        self._may_look = True

    async def collisions(
        self,
        client: Client,
        stream: str,
        results: WindowResults,
        messages: Sequence[Headed],
        there: Mapping[int, int],
        *,
        sent_twice: bool,
    ) -> list[int]:
        """Which results are not in the stream, though JetStream says that it has their ids.

        Args:
            client: the connection.
            stream: the stream that acknowledged them.
            results: the window.
            messages: its results as they were published.
            there: stream sequences of what is there, by the places of results.
            sent_twice: whether the connection was lost meanwhile, so that these may be copies of
                the same write.

        Returns:
            Their places.
        """
        may_be_there = results.may_be_there or sent_twice
        found: list[int] = []
        places = list(there)
        for first in range(0, len(places), _AT_ONCE):
            part = places[first : first + _AT_ONCE]
            stored = await asyncio.gather(*(self._look(client, stream, there[p]) for p in part))
            for place, message in zip(part, stored, strict=True):
                if not self._is_copy(message, results, messages[place], may_be_there):
                    found.append(place)
        return found

    async def _look(self, client: Client, stream: str, seq: int) -> RawStreamMsg | None:
        """A message of the stream; None when it cannot be looked at."""
        if not self._may_look:
            return None
        try:
            return await client.jetstream(timeout=self._timeout_s).get_msg(stream, seq=seq)
        except NotFoundError:
            return None
        except (nats.errors.Error, APIError, TimeoutError) as error:
            if not self._may_look:  # another look told already
                return None
            self._may_look = False
            _log.warning(
                "cannot read stream %r (%s), to tell copies of results on %r from messages of"
                " others with the same id; does this user lack the permission?",
                stream, error or type(error).__name__, self._subject,
            )  # fmt: skip
            return None

    def _is_copy(
        self,
        stored: RawStreamMsg | None,
        results: WindowResults,
        message: Headed,
        may_be_there: bool,
    ) -> bool:
        if stored is None:
            return may_be_there
        if stored.subject != self._subject and not self._is_mapped:
            return False
        mine, its = _values(message[0]), stored.headers or {}
        for name in _COMPARED:
            if name == "Sinfer-Window" and results.by_message:
                continue  # after Redis was wiped the message may be in another window
            if name == "Sinfer-Product" and not results.incarnation and name not in its:
                continue  # an earlier version wrote it
            if its.get(name) != mine.get(name):
                return False
        return may_be_there or (stored.data or b"") == message[1]


def _values(block: bytes) -> dict[str, str]:
    """The headers of a message as it was published."""
    lines = block.decode("ascii").split("\r\n")[1:]
    return {name: value for name, _, value in (line.partition(":") for line in lines if line)}
