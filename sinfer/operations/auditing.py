"""Auditing: whether every message is accounted for, and every closed window can be found."""

from __future__ import annotations

from dataclasses import dataclass

from sinfer.windows.account import Account, read_account
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.store import Store


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit found of one partition.

    Attributes:
        scope: the partition.
        account: where its messages are.
        stranded: closed windows that neither wait nor are held by a worker: nobody would ever
            process them. Must be none.
    """

    scope: Scope
    account: Account
    stranded: list[str]

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, nothing double and nothing stranded."""
        return self.account.missing == 0 and not self.stranded


async def audit(store: Store, scopes: list[Scope]) -> list[Audited]:
    """Audit partitions, each at one moment: they may be at work meanwhile."""
    return [
        Audited(scope, await read_account(store, scope), await _stranded(store, scope))
        for scope in scopes
    ]


async def _stranded(store: Store, scope: Scope) -> list[str]:
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hkeys(keys.closed)
    for places in (keys.ready, keys.leases, keys.sealed):
        pipeline.zrange(places, 0, -1)
    closed, *held = await store.ask(pipeline.execute())
    found = {name for names in held for name in names}
    return sorted(name.decode() for name in closed if name not in found)
