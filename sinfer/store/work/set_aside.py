"""Windows that were set aside because their messages are not all there: read, put back, give up.

A window that is set aside is closed, and neither waits for a worker nor is held by one. It counts
as in flight, and holds no other window up.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.lua import Argument
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim
from sinfer.store.work.contents import Damage
from sinfer.types.message import Message, pack_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow

if TYPE_CHECKING:
    from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class SetAside:
    """A window that was set aside.

    Attributes:
        scope: its partition.
        window: the window.
        since_ms: since when, milliseconds since the epoch by the store's clock.
        damage: what is wrong with it.
    """

    scope: Scope
    window: ClosedWindow
    since_ms: int
    damage: Damage


async def put_back(
    store: Store, aside: SetAside, chunks: Mapping[tuple[str, int], list[Message]]
) -> bool:
    """Have workers process a window that was set aside.

    Args:
        store: the window store.
        aside: the window.
        chunks: those that were lost, by segment and place.

    Returns:
        Whether it was still set aside; nothing is changed otherwise.

    Raises:
        StoreFullError: Redis is at maxmemory.
    """
    keys = PartitionKeys(aside.scope)
    segments = list(dict.fromkeys(part.segment for part in aside.window.parts))
    args: list[Argument] = [aside.window.id]
    for (segment, place), messages in chunks.items():
        args += [segments.index(segment) + 1, place, pack_chunk(messages)]
    names = [keys.meta, keys.closed, keys.ready, keys.aside, *map(keys.segment, segments)]
    if not await store.run("put_window_back", names, args, asked=keys.asked(uuid.uuid4().hex)):
        return False
    await Schedule(store).announce(aside.scope)
    return True


async def take_aside(store: Store, aside: SetAside, *, lease_ms: int) -> Claim | None:
    """Claim a window that was set aside, to give it up; None when it is not set aside any more."""
    keys = PartitionKeys(aside.scope)
    names = [keys.meta, keys.closed, keys.leases, keys.tokens, keys.aside]
    asked = keys.asked(uuid.uuid4().hex)
    reply = await store.run(
        "claim_window_set_aside", names, [aside.window.id, lease_ms], asked=asked
    )
    if reply is None:
        return None
    token, now_ms = (int(value) for value in reply)
    return Claim(aside.window, token, 1, now_ms, 1)
