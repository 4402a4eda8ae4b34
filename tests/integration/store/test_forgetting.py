"""A partition is forgotten when nothing of it is left, and only by the one that writes it."""

from __future__ import annotations

import pytest

from sinfer.errors import StaleTokenError
from sinfer.products.revisions import Revision
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Append, Plan
from sinfer.windows.records import ClosedWindow, WindowRecord


@pytest.fixture
def scope(unique: str) -> Scope:
    return Scope("p", unique, "in.{odd}")


def one_closed_window(scope: Scope, config: str = "") -> Plan:
    window_id = f"{scope.window_prefix}all/1"
    record = WindowRecord("all", None, None, 1, 1, count=1, chunks=1, config=config)
    message = Message(b"x", "s", None, 1, 1)
    return Plan(
        appends=[Append(window_id, [message])], closed=[ClosedWindow(window_id, record, "count")]
    )


async def written(store: Store, scope: Scope, owner: str = "a") -> PartitionWriter:
    writer = PartitionWriter(store, scope, owner=owner, lease_ms=5000)
    while await writer.acquire():
        pass
    return writer


async def stored_keys(store: Store, scope: Scope) -> set[str]:
    return {
        key.decode().rpartition(":")[2]
        async for key in store.redis.scan_iter(match=f"*{scope.task}*")
    }


async def test_a_partition_with_windows_stays_and_one_without_goes(
    store: Store, scope: Scope
) -> None:
    writer = await written(store, scope)
    await writer.commit(Commit(one_closed_window(scope), b"s", counts={"fetched": 1}))
    assert await writer.forget() == 1
    claims = PartitionClaims(store, scope)
    [claim], _ = await claims.claim(1, lease_ms=5000)
    letter = DeadLetter(Message(b"x", "s", None, 1, 1), "inference", "bad", 1)
    await claims.complete([Completion(claim, {"dead": 1}, [letter])])
    assert await writer.forget() == 0
    assert "meta" not in await stored_keys(store, scope)
    assert await store.redis.xlen(writer.keys.dead) == 1


async def test_only_the_writer_may_forget(store: Store, scope: Scope) -> None:
    stalled = PartitionWriter(store, scope, owner="a", lease_ms=1)
    await stalled.acquire()
    writer = await written(store, scope, "b")
    with pytest.raises(StaleTokenError):
        await stalled.forget()
    assert await writer.forget() == 0


async def test_a_writer_from_before_cannot_write_what_was_forgotten_and_made_anew(
    store: Store, scope: Scope
) -> None:
    stalled = PartitionWriter(store, scope, owner="a", lease_ms=1)
    await stalled.acquire()
    await (await written(store, scope, "b")).forget()
    await written(store, scope, "c")
    with pytest.raises(StaleTokenError):
        await stalled.commit(Commit(one_closed_window(scope), b"s"))


async def test_beat_forgets_partitions_of_which_nothing_is_left(store: Store, scope: Scope) -> None:
    schedule = Schedule(store)
    await schedule.register(scope)
    writer = await written(store, scope)
    assert await schedule.with_state([scope]) == [scope]
    await writer.forget()
    assert await schedule.with_state([scope]) == []
    assert scope not in await schedule.partitions()


async def test_dead_letters_keep_a_partition_known(store: Store, scope: Scope) -> None:
    schedule = Schedule(store)
    await schedule.register(scope)
    writer = await written(store, scope)
    letter = DeadLetter(Message(b"x", "s", None, 1, 1), "preprocess", "bad", 1)
    await writer.commit(Commit(Plan(), b"s", [letter]))
    await writer.forget()
    assert await schedule.with_state([scope]) == []
    assert scope in await schedule.partitions()


async def test_configurations_are_kept_as_long_as_windows_need_them(
    store: Store, scope: Scope
) -> None:
    writer = await written(store, scope)
    current = Revision("new", "{}").pack()
    settings = PartitionSettings(config=current, earlier={"old": "{}", "older": "{}"})
    await writer.commit(Commit(one_closed_window(scope, "old"), b"s"), settings=settings)
    await writer.prune_configs()
    fields = {str(field, "ascii") for field in await store.redis.hkeys(writer.keys.meta)}  # type: ignore[arg-type]
    assert {field for field in fields if field.startswith("config")} == {"config", "config:old"}
    assert (await writer.load()).config == current
