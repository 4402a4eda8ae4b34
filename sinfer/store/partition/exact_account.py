"""The account of a partition, with the messages of windows whose records do not tell how many."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sinfer.store.partition.account import Account
from sinfer.store.partition.snapshot import PartitionSnapshot
from sinfer.store.work.segments import Segments

if TYPE_CHECKING:
    from sinfer.store.connection import Store


async def exact_account(store: Store, seen: PartitionSnapshot) -> Account:
    """The account of a snapshot with windows; what their records do not tell is read."""
    segments, windows, account = Segments(store, seen.scope), seen.windows, seen.account
    buffered, in_flight = account.buffered, account.in_flight
    for name, record in windows.opened.items():
        if not record.count:
            buffered += await segments.messages_in(name)
    for window in windows.closed.values():
        if window.problem and not window.record.count:
            for part in window.parts:
                in_flight += await segments.messages_in(part.segment)
    return replace(account, buffered=buffered, in_flight=in_flight)
