"""What Redis answers when it does nothing at the moment is an outage, whatever was asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from sinfer.embedded.servers import RedisServer
from sinfer.errors import StoreError, StoreFullError, UnavailableError
from sinfer.store.connection import Store
from sinfer.store.durability import Durability
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope
from tests.integration.store.conftest import Partition
from tests.support.durable_store import written
from tests.support.until import until
from tests.support.window_reference import Item

ANSWERS = [
    "ASK 3999 127.0.0.1:6381",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN Hash slot not served",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
    "MOVED 3999 127.0.0.1:6381",
    "NOREPLICAS Not enough good replicas to write.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED force unblock from blocking operation, instance state changed",
    "ERR WAITAOF cannot be used with replica instances.",
]


def parsed(answer: str) -> Any:
    """The error that the client makes of an answer."""
    return BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("in_pipeline", [False, True])
async def test_answers_that_pass_are_outages(store: Store, answer: str, in_pipeline: bool) -> None:
    error = parsed(answer)
    if in_pipeline and type(error) is exceptions.ResponseError:
        error = type(error)(f"Command # 1 (GET a) of pipeline caused error: {error}")
    with pytest.raises(UnavailableError, match="takes nothing now"):
        async with store.errors():
            raise error


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", StoreFullError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreError),
        ("ERR BUSY is no code here", StoreError),
    ],
)
async def test_other_answers_are_not(store: Store, answer: str, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        async with store.errors():
            raise parsed(answer)


async def test_a_busy_redis_is_waited_for_and_its_disk_confirms_afterwards() -> None:
    config = {"appendonly": "yes", "busy-reply-threshold": "50"}
    with RedisServer(config=config) as server:
        store, hostile = Store(server.url), Store(server.url)
        durability = Durability(store)
        await durability.try_out()
        assert durability.confirms
        endless = asyncio.create_task(
            hostile.redis.execute_command("EVAL", "while true do end", 0)  # type: ignore[no-untyped-call]
        )
        async with asyncio.timeout(10):
            while True:
                try:
                    await store.redis.get("a")
                except exceptions.ResponseError:
                    break
                except exceptions.TimeoutError:
                    continue
        with pytest.raises(UnavailableError):
            await written(durability)
        await store.redis.script_kill()
        await asyncio.wait({endless})
        endless.exception()
        assert durability.confirms
        await written(durability)
        await store.aclose()
        await hostile.aclose()


async def test_a_partition_that_comes_back_while_it_is_forgotten_is_registered(
    store: Store, unique: str
) -> None:
    schedule, scope = Schedule(store), Scope("p", unique, ">")
    partition = Partition(store, scope, type="count", count=1)
    await partition.writer.acquire()
    await schedule.register(scope)
    assert await partition.writer.forget() == 0
    # Another ingestor has it again before the first one has it unregistered.
    await Partition(store, scope, type="count", count=1).take([Item(1, "a", 0)])
    await schedule.register(scope)
    await schedule.unregister(scope)
    assert scope in await schedule.partitions()
    turn = None
    async with asyncio.timeout(10):
        while turn is None or scope not in {due.scope for due in turn.due}:
            turn = await schedule.tick(pause_ms=1, limit=100_000)
    empty = Scope("p", f"{unique}-empty", ">")
    await schedule.register(empty)
    await schedule.unregister(empty)
    assert empty not in await schedule.partitions()


async def test_windows_of_a_large_partition_may_take_long_to_be_read(unique: str) -> None:
    with RedisServer(config={"enable-debug-command": "yes"}) as server:
        store, busy = Store(server.url), Store(server.url)
        partition = Partition(store, Scope("p", unique, ">"), type="count", count=2)
        await partition.take([Item(seq, "a", 0) for seq in (1, 2, 3)])
        working = asyncio.create_task(
            busy.for_large_answers.execute_command("DEBUG", "SLEEP", "6")  # type: ignore[no-untyped-call]
        )

        async def does_not_answer() -> bool:
            try:
                await snapshot(store, partition.scope)
            except UnavailableError:
                return True
            return False

        await until(does_not_answer)
        seen = await snapshot(store, partition.scope, windows=True)
        assert (len(seen.windows.opened), len(seen.windows.closed)) == (1, 1)
        await working
        await store.aclose()
        await busy.aclose()
