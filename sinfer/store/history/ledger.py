"""The ledger of a partition: one entry for each finished window, the latest so many.

An entry is written in the same step that ends the window. It holds enough to find the window's
messages in the stream again, to the message.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from sinfer.store.keys import PartitionKeys
from sinfer.store.work.contents import unpack_members
from sinfer.windows.ids import Scope
from sinfer.windows.window import CloseReason

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_PAGE = 200


class LedgerEntry(msgspec.Struct, array_like=True, frozen=True):
    """A finished window.

    Attributes:
        window: its id.
        key: the key of its items.
        start_ms, end_ms: its bounds, milliseconds since the epoch; None for count windows.
        reason: why it closed.
        revision: how often it had fired before.
        members: the stream sequences of its messages, as ``pack_members`` writes them.
        count: messages in it.
        bytes: their payloads.
        closed_ms: when it closed, milliseconds since the epoch by the store's clock.
        claimed_ms: when the last attempt began.
        inference_ms, sinks_ms: how long the last attempt took for the model and for the sinks.
        attempts: how often it was tried, this time and before it was processed again.
        dead: how many of its messages were given up.
        model: name or version of the model, where its answer tells.
        kind: whether it was processed for the first time.
        ordinals: the places that its messages have in the window; empty where they are all there.
        incarnation: of the source when it was opened; see ``sinfer.store.partition.incarnation``.
        sinks: the sinks that its results went to, or the fallback instead of one that refused
            some; None where an earlier version did not note them.
        filtered: the stream sequences that ``preprocess`` filtered out when the window was
            processed, as ``pack_members`` writes them.
    """

    window: str
    key: str
    start_ms: int | None
    end_ms: int | None
    reason: CloseReason
    revision: int
    members: list[int]
    count: int
    bytes: int
    closed_ms: int
    claimed_ms: int
    inference_ms: int
    sinks_ms: int
    attempts: int
    dead: int
    model: str = ""
    kind: Literal["first", "redrive", "rerun"] = "first"
    ordinals: list[int] = []
    incarnation: str = ""
    sinks: list[str] | None = None
    filtered: list[int] = []

    @property
    def sequences(self) -> Iterator[int]:
        """The stream sequences of its messages, ascending."""
        return unpack_members(self.members)

    @property
    def first_seq(self) -> int:
        """The least of them; 0 where there is none."""
        return self.members[0] if self.members else 0

    @property
    def last_seq(self) -> int:
        """The greatest of them."""
        return sum(self.members) + len(self.members) // 2 - 1 if self.members else 0


@dataclass(frozen=True, slots=True)
class Finished:
    """An entry as the store has it.

    Attributes:
        scope: the partition.
        done_ms: when the window ended, milliseconds since the epoch.
        entry: the window.
    """

    scope: Scope
    done_ms: int
    entry: LedgerEntry


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(LedgerEntry)


pack_entry: Callable[[LedgerEntry], bytes] = _encoder.encode
"""Encode an entry for the store."""


def unpack_entry(blob: bytes) -> LedgerEntry:
    """Decode an entry.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError: it cannot be read, as of another version.
    """
    return _decoder.decode(blob)


async def read_ledger(store: Store, scope: Scope) -> AsyncIterator[Finished]:
    """The finished windows of a partition that the ledger still has, the latest first.

    Entries that cannot be read, as those of another version, are left out; the log tells of them.
    """
    last = "+"
    while True:
        page = await store.ask(
            store.redis.xrevrange(PartitionKeys(scope).ledger, last, "-", count=_PAGE)
        )
        for name, fields in page:
            done_ms = int(name.partition(b"-")[0])
            try:
                entry = unpack_entry(fields.get(b"entry", b""))
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                _log.warning("%s: entry %s of the ledger cannot be read: %s", scope, name, error)
                continue
            yield Finished(scope, done_ms, entry)
        if len(page) < _PAGE:
            return
        last = f"({page[-1][0].decode()}"
