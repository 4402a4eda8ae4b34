"""What a newer version has written is refused as a whole, and not misread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from sinfer.errors import FormatError
from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.store.format import FORMAT, FORMAT_FIELD
from sinfer.store.history.dead_letter_store import DeadLetterStore
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.support.window_reference import Item

pytestmark = pytest.mark.integration

Step = Callable[[Store, Scope, Partition], Awaitable[object]]


async def acquire(store: Store, scope: Scope, partition: Partition) -> None:
    await PartitionWriter(store, scope, owner="b", lease_ms=1000).acquire()


async def seize(store: Store, scope: Scope, partition: Partition) -> None:
    await PartitionWriter(store, scope, owner="b", lease_ms=1000).seize()


async def commit(store: Store, scope: Scope, partition: Partition) -> None:
    await partition.take([Item(4, "a", 0)])


async def claim(store: Store, scope: Scope, partition: Partition) -> None:
    await PartitionClaims(store, scope).claim(1, lease_ms=1000)


async def close_due(store: Store, scope: Scope, partition: Partition) -> None:
    await Schedule(store).close_due(scope)


async def purge(store: Store, scope: Scope, partition: Partition) -> None:
    await DeadLetterStore(store).purge(scope, ["1-0"])


async def look(store: Store, scope: Scope, partition: Partition) -> None:
    await snapshot(store, scope)


@pytest.fixture
def scope(unique: str) -> Scope:
    return Scope("p", unique, ">")


async def written(store: Store, scope: Scope) -> Partition:
    """A partition with an open and a closed window."""
    partition = Partition(store, scope, type="count", count=2)
    await partition.take([Item(seq, "a", 0) for seq in (1, 2, 3)])
    return partition


async def test_the_format_is_noted_with_the_writer_lease(store: Store, scope: Scope) -> None:
    partition = await written(store, scope)
    meta = partition.writer.keys.meta
    assert await store.redis.hget(meta, FORMAT_FIELD) == b"%d" % FORMAT


async def test_a_partition_of_a_version_that_noted_none_is_read_and_noted_on(
    store: Store, scope: Scope
) -> None:
    partition = await written(store, scope)
    meta = partition.writer.keys.meta
    await store.redis.hdel(meta, FORMAT_FIELD)
    await partition.complete(await partition.claim())
    assert (await snapshot(store, scope)).sizes.open == 1
    await partition.writer.release()
    await PartitionWriter(store, scope, owner="b", lease_ms=1000).acquire()
    assert await store.redis.hget(meta, FORMAT_FIELD) == b"%d" % FORMAT


@pytest.mark.parametrize("step", [acquire, seize, commit, claim, close_due, purge, look])
async def test_a_newer_format_is_refused_and_nothing_is_touched(
    store: Store, scope: Scope, step: Step
) -> None:
    partition = await written(store, scope)
    meta = partition.writer.keys.meta
    await store.redis.hset(meta, FORMAT_FIELD, FORMAT + 1)
    base = meta.removesuffix("meta")
    before = await everything(store, base)
    with pytest.raises(FormatError) as refused:
        await step(store, scope, partition)
    told = str(refused.value)
    assert told.startswith(f"{meta} was written by a newer version of sinfer (format {FORMAT + 1}")
    assert "upgrade sinfer here" in told
    assert await everything(store, base) == before


async def everything(store: Store, base: str) -> dict[bytes, bytes | None]:
    names = sorted([name async for name in store.redis.scan_iter(f"{base}*", count=10_000)])
    return {name: await store.redis.dump(name) for name in names}


async def test_status_tells_of_it_and_of_the_others_as_usual(store: Store, scope: Scope) -> None:
    newer = await written(store, scope)
    other = Scope("p", f"{scope.task}-other", ">")
    await written(store, other)
    await store.redis.hset(newer.writer.keys.meta, FORMAT_FIELD, FORMAT + 1)
    found = {task.task: task for task in await standing(store, [scope, other])}
    assert any("newer version of sinfer" in text for text in found[scope.task].trouble)
    assert not any("newer version" in text for text in found[other.task].trouble)


async def test_attempts_of_this_version_and_of_those_before_are_added_up(
    store: Store, scope: Scope
) -> None:
    partition = Partition(store, scope, type="count", count=1)
    await partition.take([Item(1, "a", 0)])
    [first] = await partition.claim()
    await partition.claims.release(first, counts=False)
    attempts = partition.writer.keys.attempts
    earlier = b"%d" % (2 * 1_000_000 + 3)  # three attempts, and two that did not count
    await store.redis.hset(attempts, first.window.id, earlier)
    [second] = await partition.claim()
    assert (second.attempt, second.excused) == (4, 3)
    await partition.claims.release(second, counts=False)
    [third] = await partition.claim()
    assert (third.attempt, third.excused) == (4, 4)
    assert (await snapshot(store, scope, windows=True)).windows.tries(third.window.id) == 4
    await partition.complete([third])
    assert not await store.redis.exists(attempts)
