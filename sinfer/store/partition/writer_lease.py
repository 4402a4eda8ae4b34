"""The writer leases of many partitions, each step in one round trip; from any thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.partition.writer import PartitionWriter

if TYPE_CHECKING:
    from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class Renewed:
    """What became of a lease.

    Attributes:
        is_held: whether it is held, and goes on.
        owner: who else holds it; empty when nobody does.
        problem: why it was not renewed; None when that was answered.
    """

    is_held: bool
    owner: str = ""
    problem: Exception | None = None


async def renew_leases(store: Store, writers: Sequence[PartitionWriter]) -> list[Renewed]:
    """Renew the leases of writers.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    replies = await store.run_many("renew_writer_lease", [writer.renewal for writer in writers])
    return [
        Renewed(False, problem=reply)
        if isinstance(reply, Exception)
        else Renewed(bool(reply[0]), "" if reply[0] else reply[1].decode())
        for reply in replies
    ]


async def give_leases_back(store: Store, writers: Sequence[PartitionWriter]) -> None:
    """Let others write these partitions; raises as ``renew_leases``."""
    await store.run_many("return_writer_lease", [writer.return_call for writer in writers])


async def note_hand(store: Store, writer: PartitionWriter, hand: bytes, deaths: int) -> None:
    """As ``PartitionWriter.note_hand``, over another store's connections."""
    await store.run("note_work_in_hand", *writer.note_call(hand, deaths))
