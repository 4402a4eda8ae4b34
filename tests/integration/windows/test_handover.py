"""Changed window settings: what was cut by old rules is closed as it is, nothing gets stuck."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.windows.account import read_account
from sinfer.windows.handover import planner_of_old, spec_text
from sinfer.windows.ids import Scope
from sinfer.windows.store import Store
from sinfer.windows.writer import Commit
from tests.integration.windows.conftest import Partition
from tests.window_reference import Item, window_spec

COUNT = {"type": "count", "count": 100}
TUMBLING = {"type": "tumbling", "size": "10ms", "time": "event"}
UPDATING = {**TUMBLING, "late": "update", "allowed_lateness": "20ms"}
SLIDING = {"type": "sliding", "size": "30ms", "slide": "10ms", "time": "event"}
SESSION = {"type": "session", "gap": "5ms", "time": "event"}


async def with_open_windows(store: Store, unique: str, old: dict[str, Any]) -> Partition:
    partition = Partition(store, Scope("p", unique, ">"), **old)
    await partition.take([])
    settings = {"spec": spec_text(partition.planner.spec)}
    await partition.writer.commit(Commit(partition.planner.plan((), 0), b""), settings=settings)
    await partition.take([Item(n, "ab"[n % 2], n) for n in range(1, 30)])
    return partition


@pytest.mark.parametrize("new", [TUMBLING, {**UPDATING, "size": "7ms"}, SLIDING, SESSION, COUNT])
@pytest.mark.parametrize(
    "old", [{**TUMBLING, "size": "9ms"}, UPDATING, {**SLIDING, "slide": "15ms"}]
)
async def test_windows_of_old_rules_are_drained_before_new_ones_open(
    store: Store, unique: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    partition = await with_open_windows(store, unique, old)
    spec, prefix = window_spec(**new), partition.scope.window_prefix
    planner = planner_of_old(await partition.writer.load(), spec, prefix)
    assert planner is not None
    partition.planner = planner
    await partition.drain()

    state = await partition.writer.load()
    assert not state.windows
    assert planner_of_old(state, spec, prefix) is None
    claims = await partition.claim()
    await partition.complete(claims)
    account = await read_account(store, partition.scope)
    assert (account.fetched, account.sunk + account.late, account.missing) == (29, 29, 0)
    assert await partition.keys_left() == {"meta"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (COUNT, {**COUNT, "count": 5, "max_wait": "1s"}),
        (TUMBLING, {**TUMBLING, "max_count": 3, "idle": "5s", "max_out_of_orderness": "1s"}),
        (SESSION, SESSION),
    ],
)
async def test_triggers_may_change_while_windows_are_open(
    store: Store, unique: str, old: dict[str, Any], new: dict[str, Any]
) -> None:
    partition = await with_open_windows(store, unique, old)
    state = await partition.writer.load()
    assert state.windows
    assert planner_of_old(state, window_spec(**new), partition.scope.window_prefix) is None
