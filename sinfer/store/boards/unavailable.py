"""What a partition's windows wait for at the moment: a model or sinks that are unavailable."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_SINCE = "since:"
_ERROR = "error:"


@dataclass(frozen=True, slots=True)
class Outage:
    """Something that is unavailable.

    Attributes:
        what: ``model``, ``sink NAME`` or ``fallback``.
        since_ms: the first failure in a row, milliseconds since the epoch.
        error: what was wrong the last time, in one line.
    """

    what: str
    since_ms: int
    error: str


def outage_fields(what: str) -> tuple[str, str]:
    """The two fields that are kept of an outage."""
    return _SINCE + what, _ERROR + what


class OutageBoard:
    """The outages of one partition, for people to see; nothing is decided by them.

    They are noted in the step that hands back a window, which will be tried again, and that try
    corrects what is noted.
    """

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._key = PartitionKeys(scope).outages

    async def over(self, back: Collection[str], known: Collection[str]) -> None:
        """Note that a window is done.

        Args:
            back: what answered it.
            known: all that its task has; anything else that is noted is forgotten.
        """
        noted = [outage.what for outage in await self.read()]
        gone = [what for what in noted if what in back or what not in known]
        if gone:
            fields = [name for what in gone for name in outage_fields(what)]
            await self._store.ask(self._store.redis.hdel(self._key, *fields))

    async def read(self) -> list[Outage]:
        """What is unavailable, by name."""
        return outages_in(await self._store.ask(self._store.redis.hgetall(self._key)))


def outages_in(stored: Mapping[bytes, bytes]) -> list[Outage]:
    """The outages that are stored, by name."""
    fields = {name.decode(): value.decode() for name, value in stored.items()}
    names = sorted(name.removeprefix(_SINCE) for name in fields if name.startswith(_SINCE))
    return [
        Outage(what, int(fields[_SINCE + what]), fields.get(_ERROR + what, "")) for what in names
    ]
