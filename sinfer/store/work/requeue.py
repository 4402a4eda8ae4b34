"""Putting windows back to be processed once more: redriven dead letters, and reruns."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.schedule import Schedule
from sinfer.store.work.contents import members_entry
from sinfer.types.message import Message, pack_chunk
from sinfer.windows.dead_letters import Origin
from sinfer.windows.ids import Scope
from sinfer.windows.records import WindowRecord, pack_record
from sinfer.windows.reprocessing import Reprocessing

if TYPE_CHECKING:
    from sinfer.store.connection import Store


async def requeue(
    store: Store,
    scope: Scope,
    origin: Origin,
    reprocessing: Reprocessing,
    messages: Sequence[Message],
    *,
    incarnation: str,
    letters: Sequence[str] = (),
) -> str:
    """Store a closed window that workers take like any other. All of it happens or nothing.

    Args:
        store: the window store.
        scope: the partition.
        origin: the window as products and sinks see it.
        reprocessing: what it remembers; its lists follow the messages.
        messages: its messages, in the order of the stream.
        incarnation: of the source when they were read; see ``sinfer.store.partition.incarnation``.
        letters: the dead letters that they were. They leave the dead letters in the same step.
            Without any, the messages were read from the stream again and count as fetched again.

    Returns:
        The id under which the store has it now; empty when one of the letters is gone.

    Raises:
        StoreFullError: Redis is at maxmemory.
    """
    keys = PartitionKeys(scope)
    window_id = f"{reprocessing.id}~{uuid.uuid4().hex[:16]}"
    record = WindowRecord(
        origin.key,
        origin.start_ms,
        origin.end_ms,
        messages[0].stream_seq,
        messages[-1].stream_seq,
        count=len(messages),
        bytes=sum(len(message.data) for message in messages),
        revision=origin.revision,
        chunks=1,
        reprocessing=reprocessing,
        incarnation=incarnation,
    )
    stored = await store.run(
        "requeue_window",
        [keys.meta, keys.closed, keys.ready, keys.dead, keys.segment(window_id), keys.members],
        [
            window_id,
            origin.reason,
            pack_record(record),
            pack_chunk(messages),
            0 if letters else len(messages),
            members_entry(1, messages),
            *letters,
        ],
        asked=keys.asked(uuid.uuid4().hex),
    )
    if not stored:
        return ""
    await Schedule(store).announce(scope)
    return window_id
