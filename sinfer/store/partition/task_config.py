"""The configuration that is kept with the windows of a partition: the newest, and earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sinfer.store.keys import CONFIG_FIELD, partition_keys
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store


async def newest_config(store: Store, scope: Scope) -> str:
    """The configuration that the partition is ingested under; empty when none is kept.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    return await _read(store, scope, CONFIG_FIELD)


async def earlier_config(store: Store, scope: Scope, name: str) -> str:
    """The configuration that windows were opened under, by the name in their records; as above."""
    return await _read(store, scope, earlier_field(name))


def earlier_field(name: str) -> str:
    """The setting of a partition that keeps an earlier configuration."""
    return f"{CONFIG_FIELD}:{name}"


async def _read(store: Store, scope: Scope, field: str) -> str:
    found = await store.ask(store.redis.hget(partition_keys(scope).meta, field))
    return (found or b"").decode(errors="replace")  # what is garbled is refused as JSON
