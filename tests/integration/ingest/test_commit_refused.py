"""A commit that Redis or the encoder refuses: the message to blame dies, the partition goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.clock import SystemClock
from sinfer.embedded.servers import RedisServer
from sinfer.errors import CommitRefusedError
from sinfer.ingest.commit import Storing
from sinfer.ingest.windower import Beginning, Refusals, Windower
from sinfer.logging.troubles import Troubles
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.connection import Store
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.tasks.hints import HintSender
from sinfer.types.message import pack_chunk
from sinfer.windows.dead_letters import unpack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.support.accounts import read_account
from tests.support.task_settings import task_of

pytestmark = pytest.mark.integration


class Keyed(InferPipeline[InferTaskConfig, str]):
    def preprocess(self, message: Message) -> str | None:
        return message.subject

    def key(self, item: str) -> str:
        return item

    def build_request(self, window: Window[str]) -> Any:
        return list(window)

    def build_results(self, window: Window[str], response: Any) -> list[Result]:
        return []


class NoHints(HintSender):
    """Nobody works here."""

    def __init__(self) -> None:
        pass

    def send(self, scope: Scope, windows: int, *, always: bool = False) -> None:
        pass


class Partition:
    """One partition as the ingestor writes it."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.scope = Scope("p", name, ">")
        self.refusals = Refusals()
        self.writer = PartitionWriter(store, self.scope, owner="me", lease_ms=60_000)

    async def open(self) -> Windower:
        task = task_of(self.scope.task, window={"type": "count", "count": 1000})
        clock = SystemClock()
        await self.writer.acquire()
        state = await self.writer.load()
        storing = Storing(
            self.writer,
            clock,
            NoHints(),
            Schedule(self.store),
            asyncio.Event(),
            Troubles().of(str(self.scope)),
        )
        planner = make_planner(
            task.window, self.scope.window_prefix, windows=state.windows, watermark_ms=None
        )
        return Windower(
            Keyed(task), planner, clock, storing.store,
            begins=Beginning(str(self.scope), source=state.source or b""), refusals=self.refusals,
        )  # fmt: skip

    async def position(self) -> int:
        source: Any = await self.store.redis.hget(self.writer.keys.meta, "source")
        return Checkpoint.decode(source).position if source else 0

    async def letters(self) -> dict[int, str]:
        found: Any = await self.store.redis.xrange(self.writer.keys.dead)
        letters = [unpack_dead_letter(fields[b"letter"]) for _, fields in found]
        return {letter.message.stream_seq: letter.error for letter in letters}

    async def check(self, total: int, dead: set[int]) -> None:
        account = await read_account(self.store, self.scope)
        assert (account.missing, account.fetched, account.buffered) == (0, total, total - len(dead))
        assert set(await self.letters()) == dead


def messages(count: int, bad: set[int] = frozenset(), data: bytes = b"x") -> list[Message]:  # type: ignore[assignment]
    return [
        Message(data, "bad" if seq in bad else f"k{seq % 7}", None, seq, 1)
        for seq in range(1, count + 1)
    ]


def batch_of(some: list[Message]) -> Batch:
    return Batch(some, Checkpoint("s", some[-1].stream_seq))


@pytest.fixture
async def partition(redis_server: RedisServer, unique: str) -> AsyncIterator[Partition]:
    store = Store(redis_server.url)
    yield Partition(store, unique)
    await store.aclose()


async def test_a_message_that_cannot_be_encoded_dies_alone(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_chunk
    tries = 0

    def picky(chunk: list[Message]) -> bytes:
        nonlocal tries
        tries += 1
        if any(message.stream_seq in (7, 60) for message in chunk):
            raise OverflowError("Integer value out of range")
        return pack(chunk)

    monkeypatch.setattr("sinfer.store.partition.batch_commit.pack_chunk", picky)
    windower = await partition.open()
    await windower.take(batch_of(messages(64)))
    await partition.check(64, {7, 60})
    assert (await partition.letters())[7] == (
        "cannot be stored: OverflowError: Integer value out of range"
    )
    assert await partition.position() == 64


async def test_a_dead_letter_that_cannot_be_stored_as_it_is_leaves_out_what_is_to_blame(
    partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    windower = await partition.open()
    odd = Message(b"payload", "k", {"name": "\ud800"}, 2, 1)
    await windower.take(batch_of([*messages(1), odd, *messages(3)[2:]]))
    await partition.check(3, {2})
    error = (await partition.letters())[2]
    assert "UnicodeEncodeError" in error
    assert error.endswith("its headers cannot be stored either")


async def test_a_segment_of_a_wrong_type_harms_its_own_window_and_few_messages(
    partition: Partition,
) -> None:
    windower = await partition.open()
    segment = partition.writer.keys.segment(f"{partition.scope.window_prefix}bad/4")
    await partition.store.redis.set(segment, "somebody else's")
    await windower.take(batch_of(messages(10, bad={4})))
    await partition.check(10, {4})
    assert "WRONGTYPE" in (await partition.letters())[4]


async def test_a_fault_that_hits_every_message_halts_and_spares_them(
    partition: Partition,
) -> None:
    everything = set(range(1, 51))
    for seq in everything:
        name = f"{partition.scope.window_prefix}bad/{seq}"
        await partition.store.redis.set(partition.writer.keys.segment(name), "in the way")
    for _ in range(3):  # the supervisor tries again
        windower = await partition.open()
        rest = messages(50, bad=everything)[await partition.position() :]
        with pytest.raises(CommitRefusedError, match=r"one message after the other.*WRONGTYPE"):
            await windower.take(batch_of(rest))
    await partition.check(5, {1, 2, 3, 4, 5})


@pytest.mark.parametrize("key", ["open", "dead", "ready"])
async def test_a_key_of_a_wrong_type_kills_no_message(partition: Partition, key: str) -> None:
    windower = await partition.open()
    await partition.store.redis.set(getattr(partition.writer.keys, key), "in the way")
    with pytest.raises(CommitRefusedError, match="WRONGTYPE"):
        await windower.take(batch_of(messages(20)))
    await partition.store.redis.delete(getattr(partition.writer.keys, key))
    await windower.take(batch_of(messages(20)))
    await partition.check(20, set())


async def test_a_count_that_is_no_number_is_refused_before_anything_is_written(
    partition: Partition,
) -> None:
    windower = await partition.open()
    await partition.store.redis.hset(partition.writer.keys.meta, "fetched", "many")
    with pytest.raises(CommitRefusedError, match=r"fetched.*is no number"):
        await windower.take(batch_of(messages(20)))
    await partition.store.redis.hdel(partition.writer.keys.meta, "fetched")
    await windower.take(batch_of(messages(20)))
    await partition.check(20, set())


@pytest.fixture(scope="module")
def small_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Takes no value above 1 MiB."""
    directory: Path = tmp_path_factory.mktemp("small")
    server = RedisServer(directory, config={"proto-max-bulk-len": "1048576"})
    server.start()
    yield server
    server.stop()


async def test_a_value_that_is_too_large_for_redis_is_divided_and_dies_only_alone(
    small_redis: RedisServer, unique: str
) -> None:
    store = Store(small_redis.url)
    try:
        partition = Partition(store, unique)
        windower = await partition.open()
        some = [Message(b"x" * 500_000, "k", None, seq, 1) for seq in (1, 2, 3)]
        some.append(Message(b"x" * 2_000_000, "k", None, 4, 1))
        some.append(Message(b"x", "k", None, 5, 1))
        await windower.take(batch_of(some))
        await partition.check(5, {4})
        error = (await partition.letters())[4]
        assert "bulk" in error
        assert "2000000 bytes of payload" in error
    finally:
        await store.aclose()
