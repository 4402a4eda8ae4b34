"""The exact account of a partition at one moment."""

from __future__ import annotations

from sinfer.store.connection import Store
from sinfer.store.partition.account import Account
from sinfer.store.partition.exact_account import exact_account
from sinfer.store.partition.snapshot import snapshot
from sinfer.windows.ids import Scope


async def read_account(store: Store, scope: Scope) -> Account:
    """Add up a partition's account; the cost grows with its windows."""
    return await exact_account(store, await snapshot(store, scope, windows=True))
