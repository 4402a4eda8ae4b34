"""Redriving on a real server: what goes back into which window, and that nothing is doubled."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, ClassVar, Literal

import pytest

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.operations.audit import audit
from sinfer.operations.redrive import Redrive
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.dead_letters import DeadLetter, Failed, Origin
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Plan
from tests.integration.ingest.fatal_pipeline import Fatal
from tests.support.task_settings import task_of

EVERYTHING = LetterFilter()


class Numbers(InferPipeline[InferTaskConfig, dict[str, Any]]):
    def preprocess(self, message: Message) -> dict[str, Any] | None:
        item = json.loads(message.data)
        return None if item["id"] < 0 else item

    def key(self, item: dict[str, Any]) -> str:
        return str(item.get("key", "all"))

    def build_request(self, window: Window[dict[str, Any]]) -> Any:
        return [item["id"] for item in window]

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        return [Result({"id": item["id"]}) for item in window]


class Sums(Numbers):
    results_per: ClassVar[Literal["item", "window", "any"]] = "window"


class Partition:
    """A partition with dead letters, and what is claimed of it."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self.store = store
        self.scope = scope
        self.letters = DeadLetterStore(store)
        self.claims = PartitionClaims(store, scope)
        self.task = task_of(scope.task)

    async def give_up(self, *letters: DeadLetter) -> None:
        writer = PartitionWriter(self.store, self.scope, owner="w", lease_ms=5000)
        await writer.acquire()
        await writer.load()
        counts = {"fetched": len(letters), "dead": len(letters)}
        await writer.commit(Commit(Plan(), b"", letters, counts))
        await Schedule(self.store).register(self.scope)

    def redrive(self, pipeline: type[Numbers] = Numbers, **options: Any) -> Redrive:
        return Redrive(self.store, self.scope, pipeline(self.task), **options)

    async def claim(self) -> list[tuple[Claim, list[int]]]:
        claims, _ = await self.claims.claim(100, lease_ms=5000)
        contents = await self.claims.read(claims)
        return [
            (claim, [message.stream_seq for message in messages])
            for claim, messages in zip(claims, contents, strict=True)
        ]

    async def assert_right(self) -> None:
        [found] = await audit(self.store, [self.scope])
        assert found.is_right, found


@pytest.fixture
def partition(store: Store, unique: str) -> Partition:
    return Partition(store, Scope("p", unique, "in.{odd}"))


def message(seq: int, **fields: Any) -> Message:
    return Message(json.dumps({"id": seq, **fields}).encode(), "in.a", None, seq, seq)


def loose(seq: int, **fields: Any) -> DeadLetter:
    return DeadLetter(message(seq, **fields), "preprocess", "was wrong", 1)


def of_window(seq: int, ordinal: int, window: str = "t/p/k/1", count: int = 10) -> DeadLetter:
    origin = Origin("k", None, None, "count", 0, count)
    return DeadLetter(message(seq), "inference", "refused", 1, window, 2, ordinal, origin)


async def test_letters_of_a_window_go_back_to_their_places_in_it(partition: Partition) -> None:
    await partition.give_up(of_window(7, 6), of_window(3, 2), of_window(13, 2, "t/p/k/11"))
    result = await partition.redrive().run(EVERYTHING)
    assert (result.letters, result.windows) == (3, 2)
    found = {claim.window.public_id: (claim, seqs) for claim, seqs in await partition.claim()}
    claim, seqs = found["t/p/k/1"]
    again = claim.window.record.reprocessing
    assert again is not None
    assert seqs == [3, 7]
    assert again.ordinals == [2, 6]
    assert again.attempts == 2
    assert again.history == [[Failed("inference", "refused", 1, 2)]] * 2
    assert found["t/p/k/11"][1] == [13]
    await partition.assert_right()
    counts = {"sunk": 2}
    assert await partition.claims.complete([Completion(claim, counts)]) == [True]
    await partition.assert_right()


async def test_part_of_a_window_never_replaces_the_result_of_the_whole(
    partition: Partition,
) -> None:
    await partition.give_up(*(of_window(n, n - 1, count=4) for n in range(1, 5)))
    result = await partition.redrive(Sums).run(LetterFilter(first_seq=1, last_seq=2))
    assert result.letters == 2
    [(claim, seqs)] = await partition.claim()
    assert seqs == [1, 2]
    assert claim.window.public_id != "t/p/k/1"


async def test_a_whole_window_is_redriven_as_itself(partition: Partition) -> None:
    await partition.give_up(*(of_window(n, n - 1, count=4) for n in range(1, 5)))
    await partition.redrive(Sums).run(EVERYTHING)
    [(claim, seqs)] = await partition.claim()
    assert (claim.window.public_id, seqs) == ("t/p/k/1", [1, 2, 3, 4])


async def test_letters_without_a_window_share_one_for_each_key(partition: Partition) -> None:
    filtered = DeadLetter(message(-5), "preprocess", "was wrong", 1)
    await partition.give_up(loose(2, key="a"), loose(1, key="a"), loose(3, key="b"), filtered)
    result = await partition.redrive().run(EVERYTHING)
    assert (result.letters, result.windows, result.filtered) == (3, 2, 1)
    found = {claim.window.record.key: seqs for claim, seqs in await partition.claim()}
    assert found == {"a": [1, 2], "b": [3]}
    await partition.assert_right()


async def test_two_who_redrive_at_once_redrive_each_letter_once(partition: Partition) -> None:
    await partition.give_up(*(of_window(n, n % 10, f"t/p/k/{n // 10}") for n in range(1, 301)))
    results = await asyncio.gather(*(partition.redrive().run(EVERYTHING) for _ in range(3)))
    assert sum(result.letters for result in results) == 300
    seqs = [seq for _, seqs in await partition.claim() for seq in seqs]
    assert sorted(seqs) == list(range(1, 301))
    assert await partition.letters.count(partition.scope) == 0
    await partition.assert_right()


async def test_redriving_waits_while_too_many_windows_wait(partition: Partition) -> None:
    limits = partition.task.limits.model_copy(update={"max_pending_windows": 2})
    partition.task = partition.task.model_copy(update={"limits": limits})
    await partition.give_up(*(of_window(n, 0, f"t/p/k/{n}") for n in range(1, 6)))
    running = asyncio.create_task(partition.redrive().run(EVERYTHING))
    seqs: list[int] = []
    async with asyncio.timeout(20):
        while len(seqs) < 5:
            found = await partition.claim()
            assert len(found) <= 2
            seqs += [seq for _, own in found for seq in own]
            await partition.claims.complete([Completion(c, {"sunk": 1}) for c, _ in found])
    assert (await running).letters == 5
    await partition.assert_right()


async def test_redriving_keeps_to_its_rate_and_tells_of_each_letter(partition: Partition) -> None:
    await partition.give_up(*(of_window(n, 0, f"t/p/k/{n}") for n in range(1, 21)))
    steps: list[int] = []
    started = time.monotonic()
    result = await partition.redrive(rate=100.0, progress=steps.append).run(EVERYTHING)
    assert time.monotonic() - started >= 20 / 100.0
    assert sum(steps) == result.letters == 20
    assert len(steps) == 20


@pytest.mark.parametrize(
    ("wanted", "seqs"),
    [
        (LetterFilter(stage="inference"), [3, 4]),
        (LetterFilter(text="WRONG"), [1, 2]),
        (LetterFilter(first_seq=2, last_seq=3), [2, 3]),
        (LetterFilter(window="t/p/k/9"), [4]),
        (LetterFilter(until_ms=5), []),
        (LetterFilter(since_ms=5), [1, 2, 3, 4]),
        (LetterFilter(product="other"), []),
    ],
)
async def test_a_filter_finds_what_it_says(
    partition: Partition, wanted: LetterFilter, seqs: list[int]
) -> None:
    letters = [loose(1), loose(2), of_window(3, 0), of_window(4, 0, "t/p/k/9")]
    await partition.give_up(*letters)
    found = partition.letters.of_partition(partition.scope, wanted)
    assert [stored.letter.message.stream_seq async for stored in found] == seqs


async def test_an_id_names_one_letter_of_all_partitions(partition: Partition) -> None:
    await partition.give_up(loose(1), loose(2))
    every = [stored async for stored in partition.letters.of_partition(partition.scope, EVERYTHING)]
    wanted = LetterFilter(ids=frozenset([every[1].id]))
    assert [s.letter.message.stream_seq async for s in partition.letters.find(wanted)] == [2]
    assert await partition.letters.purge(partition.scope, [every[1].entry]) == 1
    assert [s async for s in partition.letters.find(wanted)] == []
    await partition.assert_right()


async def test_what_ended_an_ingestor_does_not_end_the_command_that_redrives_it(
    partition: Partition,
) -> None:
    killer = Message(b"segv", "in.a", None, 1, 1)
    mended = Message(b"fine", "in.a", None, 2, 1)
    why = "preprocess, key or event_time: ended its process: SIGSEGV"
    await partition.give_up(
        DeadLetter(killer, "preprocess", why, 1), DeadLetter(mended, "preprocess", why, 1)
    )
    redrive = Redrive(partition.store, partition.scope, Fatal(partition.task))
    result = await redrive.run(EVERYTHING)
    assert (result.letters, result.failed) == (1, 1)
    [stored] = [one async for one in partition.letters.of_partition(partition.scope, EVERYTHING)]
    assert stored.letter.message == killer
    assert stored.letter.error == why
    assert [seqs for _, seqs in await partition.claim()] == [[2]]
    await partition.assert_right()
