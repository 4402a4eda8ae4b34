"""Repairing what tells where windows are: keys that Redis evicted, or that a person deleted.

A window whose record is there is never forgotten: it is put back into the index that should name
it. What cannot be repaired is for the audit to say.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING

from sinfer.store.keys import PartitionKeys
from sinfer.store.lua import Argument
from sinfer.store.partition.snapshot import PartitionSnapshot, snapshot
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_AT_ONCE = 200


async def repair_index(store: Store, scope: Scope) -> int:
    """Put a partition's windows back that no index names.

    Returns:
        How many windows and shared segments were put right.
    """
    seen = await snapshot(store, scope, windows=True)
    restored = await _put_back(store, seen)
    counted = await _recount(store, seen)
    if restored:
        _log.error("%s: %d windows were in no index and are put back", scope, restored)
        await Schedule(store).announce(scope)
    if counted:
        _log.error("%s: the holders of %d shared segments were counted again", scope, counted)
    return restored + counted


async def _put_back(store: Store, seen: PartitionSnapshot) -> int:
    keys = PartitionKeys(seen.scope)
    names = [
        keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready, keys.leases, keys.awaiting,
        keys.aside,
    ]  # fmt: skip
    rows: list[tuple[Argument, ...]] = [
        (name, "deadlines", ms) for name, ms in seen.windows.unclosable
    ]
    waits_for_others = "partitions" in seen.meta
    for name in seen.windows.stranded:
        window = seen.windows.closed[name]
        end_ms = window.record.end_ms
        if waits_for_others and window.reason in ("time", "gap") and end_ms is not None:
            rows.append((name, "sealed", end_ms))
        else:
            rows.append((name, "ready", 0))
    restored = 0
    for first in range(0, len(rows), _AT_ONCE):
        words = [word for row in rows[first : first + _AT_ONCE] for word in row]
        asked = keys.asked(uuid.uuid4().hex)
        restored += int(await store.run("reindex_windows", names, words, asked=asked))
    return restored


async def _recount(store: Store, seen: PartitionSnapshot) -> int:
    windows, noted = seen.windows, seen.windows.holders_noted
    holders = windows.holders()
    unknown = sorted(
        name for name in {*windows.segment_sizes, *holders, *noted} if noted.get(name, 0) <= 0
    )
    unknown = [name for name in unknown if holders[name] or name in noted][:_AT_ONCE]
    if not unknown:
        return 0
    keys = PartitionKeys(seen.scope)
    names = [keys.meta, keys.open, keys.closed, keys.refs, keys.segment_sizes, keys.members]
    meta = seen.meta
    args: list[Argument] = [meta.get("commits", b""), meta.get("windows", b"")]
    args += [len(windows.opened), len(windows.closed)]
    for name in unknown:
        names += [keys.segment(name), keys.given_up(name)]
        args += [name, holders[name]]
    return int(
        await store.run("recount_segment_holders", names, args, asked=keys.asked(uuid.uuid4().hex))
    )
