"""What a user may publish, told by the server without anything being done.

A request that the JetStream API cannot read, and that wants no answer, does nothing; but the server
looks first whether the user may publish it, and says so when not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import nats.errors
from nats.aio.client import Client

from sinfer.config.jetstream_place import NatsPlace
from sinfer.encoding import from_json
from sinfer.nats.connection import Notices, connect
from sinfer.nats.subjects import covers

_UNREADABLE = b"{"
_QUOTED = re.compile(r'"([^"]*)"')
_TIMEOUT_S = 5


class Rights:
    """One connection, and what its user was forbidden.

    Attributes:
        client: the connection.
        forbidden: what the server said.
    """

    def __init__(self) -> None:
        self.client: Client
        self.forbidden: list[str] = []

    @classmethod
    async def connect(cls, place: NatsPlace) -> Rights:
        """Connect, and try whether answers may come.

        Raises:
            UnavailableError: as ``sinfer.nats.connection.connect``; so are other errors.
        """
        rights = cls()
        rights.client = await connect(
            place, name="sinfer-check", notices=Notices(forbidden=rights.forbidden.append)
        )
        inbox = await rights.client.subscribe(rights.client.new_inbox())
        await rights._heard()
        await inbox.unsubscribe()
        return rights

    async def missing(self, requests: Iterable[str]) -> list[str]:
        """Those of the subjects of API requests that the user may not publish to.

        Raises:
            nats.errors.Error: the connection was lost.
        """
        requests = list(requests)
        for subject in requests:
            await self.client.publish(subject, _UNREADABLE)
        await self._heard()
        # nats-py tells errors in small letters.
        refused = {name.lower() for text in self.forbidden for name in _QUOTED.findall(text)}
        return [subject for subject in requests if subject.lower() in refused]

    async def _heard(self) -> None:
        """Wait until the server has answered all that was sent: nats-py's first flush may overtake
        it, the second cannot."""
        await self.client.flush(timeout=_TIMEOUT_S)
        await self.client.flush(timeout=_TIMEOUT_S)

    @property
    def deafness(self) -> str:
        """Why no answer to any request can come; empty when answers may."""
        if any("subscription to" in text.lower() for text in self.forbidden):
            return "this user may not subscribe to _INBOX.>, where answers come; allow it"
        return ""

    async def may_publish(self, subject: str) -> bool | None:
        """Whether the user may publish messages to a subject, as the server says it of the user;
        None where it does not say. Nothing is published there: somebody may listen."""
        try:
            answer = await self.client.request("$SYS.REQ.USER.INFO", timeout=1)
            given: Any = from_json(answer.data)["data"].get("permissions") or {}
            publish = given.get("publish") or {}
            allowed, denied = publish.get("allow") or [], publish.get("deny") or []
        except (nats.errors.Error, TimeoutError, ValueError, TypeError, LookupError):
            return None
        if any(covers(pattern, subject) for pattern in denied):
            return False
        return not allowed or any(covers(pattern, subject) for pattern in allowed)

    async def aclose(self) -> None:
        """Close the connection."""
        await self.client.close()
