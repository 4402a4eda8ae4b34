"""How far a partition was read, as its writer left it: opaque here, see ``source.checkpoint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


async def stored_checkpoint(store: Store, scope: Scope) -> bytes | None:
    """The checkpoint of a partition; None where none was stored.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    blob: bytes | None = await store.ask(store.redis.hget(PartitionKeys(scope).meta, "source"))
    return blob or None
