"""Windows that wait too long are told once a minute, with who is missing; others are not."""

from __future__ import annotations

import logging

import pytest

from sinfer.liveness import overdue
from sinfer.liveness.overdue import Overdue
from sinfer.operations.processes import add_processes
from sinfer.operations.status import standing
from sinfer.store.boards.pauses import Pause, PauseBoard
from sinfer.store.boards.running_processes import Presence, PresenceBoard
from sinfer.store.boards.unavailable import outage_fields
from sinfer.store.connection import Store
from sinfer.store.keys import CLOCK, DUE, PartitionKeys
from sinfer.store.schedule import Schedule
from sinfer.types.queues import TICK_QUEUE, product_queue
from sinfer.windows.ids import Scope

pytestmark = pytest.mark.integration

SCOPE = Scope("pumps", "north", "in.w1")
WORKER = Presence(
    "worker", "w@here", 1, "t", ["pumps"], queues=[TICK_QUEUE, product_queue("pumps")]
)


@pytest.fixture
async def store(empty_store: Store) -> Store:
    await Schedule(empty_store).register(SCOPE)
    return empty_store


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Overdue:
    for name in ("_LOOK_S", "_BEGIN_S"):
        monkeypatch.setattr(overdue, name, 0.0)
    return Overdue()


async def wait_since(store: Store, seconds: float) -> None:
    """Have two windows wait for so long."""
    now_ms = await store.now_ms()
    members = {"w1": now_ms - seconds * 1000, "w2": now_ms}
    await store.redis.zadd(PartitionKeys(SCOPE).ready, members)


async def told(looking: Overdue, store: Store, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, overdue.__name__):
        await looking.look(store)
    return [record.getMessage() for record in caplog.records]


async def test_that_nobody_listens_is_told_once_and_that_somebody_does(
    store: Store, looking: Overdue, caplog: pytest.LogCaptureFixture
) -> None:
    await wait_since(store, 1)
    assert await told(looking, store, caplog) == []
    await wait_since(store, 20)
    [line] = await told(looking, store, caplog)
    assert line.startswith("product pumps: closed windows wait: no worker runs; in another")
    assert await told(looking, store, caplog) == []
    await PresenceBoard(store).tell(WORKER)
    assert await told(looking, store, caplog) == ["product pumps: closed windows are taken again"]


async def test_that_workers_are_busy_is_told_after_a_minute(
    store: Store, looking: Overdue, caplog: pytest.LogCaptureFixture
) -> None:
    await PresenceBoard(store).tell(WORKER)
    await wait_since(store, 50)
    assert await told(looking, store, caplog) == []
    await wait_since(store, 70)
    [line] = await told(looking, store, caplog)
    assert "have waited for more than 60 s, though workers listen" in line
    [task] = await standing(store, [SCOPE])
    await add_processes(store, [task])
    assert task.workers == 1
    [trouble] = [text for text in task.trouble if "though" in text]
    assert trouble.startswith("in.w1: 2 closed windows wait, the first for 7")


@pytest.mark.parametrize("why", ["paused", "unavailable"])
async def test_what_waits_for_a_known_reason_is_not_told(
    store: Store, looking: Overdue, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    await PresenceBoard(store).tell(WORKER)
    await wait_since(store, 600)
    if why == "paused":
        await PauseBoard(store).pause("pumps", "north", Pause("by hand", 0))
    else:
        since, error = outage_fields("model")
        await store.redis.hset(
            PartitionKeys(SCOPE).outages, mapping={since: 1, error: "no connection"}
        )
    assert await told(looking, store, caplog) == []
    [task] = await standing(store, [SCOPE])
    await add_processes(store, [task])
    assert not [text for text in task.trouble if "though" in text]


async def test_that_no_beat_runs_is_told_when_something_is_due(
    store: Store, looking: Overdue, caplog: pytest.LogCaptureFixture
) -> None:
    await PresenceBoard(store).tell(WORKER)
    assert await told(looking, store, caplog) == []
    now_ms = await store.now_ms()
    await store.redis.zadd(DUE, {str(SCOPE): now_ms - 20_000})
    [line] = await told(looking, store, caplog)
    assert line.startswith("no beat runs: windows do not close by time")
    await store.redis.hset(CLOCK, "tick_until", now_ms)
    assert await told(looking, store, caplog) == ["beat's ticks come through again"]


async def test_only_the_given_partitions_are_looked_at(
    store: Store, looking: Overdue, caplog: pytest.LogCaptureFixture
) -> None:
    await wait_since(store, 20)
    with caplog.at_level(logging.INFO, overdue.__name__):
        await looking.look(store, [])
    assert caplog.records == []
