"""A window of several calls: they are made side by side, and each answer is paid for once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from sinfer.errors import (
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceUnavailableError,
)
from tests.integration.worker.bench import Bench, Model, Record

pytestmark = pytest.mark.integration

REFUSED = InferenceRejectedError("422: row is bad")

GONE = {
    "429": InferenceUnavailableError("429 Too Many Requests", status=429, not_begun=True),
    "503": InferenceUnavailableError("503 Service Unavailable", status=503, not_begun=True),
    "time-out": InferenceUnavailableError("no answer within 5s"),
    "closed": InferenceUnavailableError("ReadError"),
}


class Paid(Model):
    """Takes its time, and fails at chance.

    Attributes:
        error: what a call that fails raises.
        rate: which share of them does.
        bad: numbers that are refused.
        paid: how often each number was answered.
        most: calls that were under way at once.
        dies: set when a call ended the worker.
        deadly: those that do, from 1.
    """

    def __init__(
        self,
        error: Exception | None = None,
        rate: float = 0.0,
        bad: frozenset[int] = frozenset(),
        deadly: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__()
        self.error, self.rate, self.bad, self.deadly = error, rate, bad, deadly
        self.paid: Counter[int] = Counter()
        self.under_way = self.most = 0
        self.dies = asyncio.Event()
        self._chance = random.Random(7)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        self.calls.append((request, idempotency_key))
        call = len(self.calls)
        fails = self.error is not None and self._chance.random() < self.rate
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self._chance.uniform(0.0005, 0.003))
        finally:
            self.under_way -= 1
        if call in self.deadly:
            self.dies.set()
            await asyncio.Event().wait()
        if fails:
            assert self.error is not None
            raise self.error
        if self.bad.intersection(request):
            raise REFUSED
        self.paid.update(request)
        return [2 * number for number in request]


def twice(numbers: Any) -> list[int]:
    return sorted(2 * n for n in numbers)


def values(sink: Record) -> list[int]:
    return sorted(int(data) for _, data in sink.written)


@pytest.mark.parametrize("most", [1, 8, 50])
async def test_the_calls_of_a_window_run_side_by_side(bench: Bench, most: int) -> None:
    bench.model = model = Paid()
    await bench.feed(range(100, 200))
    inference = {"max_batch": 1, "max_concurrency": most}
    await bench.settle(bench.processor(sink=(sink := Record()), inference=inference))
    assert values(sink) == twice(range(100, 200))
    assert [row.ordinal for row in sink.windows[0]] == list(range(100))
    assert model.most == most
    assert len({key for _, key in model.calls}) == 100


async def test_two_windows_share_what_their_task_may_have(bench: Bench) -> None:
    bench.model = model = Paid()
    await bench.feed(range(100, 140), range(200, 240))
    processor = bench.processor(
        sink=(sink := Record()), inference={"max_batch": 1, "max_concurrency": 8}
    )
    claims = await bench.claim(2, lease_ms=60_000)
    contents = await bench.claims.read(claims)
    pairs = zip(claims, contents, strict=True)
    await asyncio.gather(*(processor.process(claim, messages) for claim, messages in pairs))
    assert values(sink) == twice([*range(100, 140), *range(200, 240)])
    assert model.most == 8


async def test_the_cap_of_the_endpoint_holds_for_the_calls_of_one_window(bench: Bench) -> None:
    bench.model = model = Paid()
    await bench.feed(range(100, 130))
    inference = {"max_batch": 1, "max_concurrency": 20, "endpoint_concurrency": 3}
    await bench.settle(bench.processor(sink=(sink := Record()), inference=inference))
    assert values(sink) == twice(range(100, 130))
    assert model.most == 3


async def test_bad_items_among_calls_side_by_side_cost_the_others_nothing(bench: Bench) -> None:
    bench.model = model = Paid(bad=frozenset({103, 117, 151}))
    await bench.feed(range(100, 200))
    inference = {"max_batch": 10, "max_concurrency": 8}
    await bench.settle(bench.processor(sink=(sink := Record()), inference=inference))
    assert values(sink) == twice(set(range(100, 200)) - {103, 117, 151})
    assert [row.ordinal for row in sink.windows[0]] == sorted(set(range(100)) - {3, 17, 51})
    assert sorted(int(letter.message.data) for letter in await bench.dead()) == [103, 117, 151]
    assert set(model.paid.values()) == {1}


async def test_a_model_that_is_unavailable_is_asked_a_few_times_only(bench: Bench) -> None:
    bench.model = model = Paid(GONE["closed"], 1.0)
    await bench.feed(range(100, 200))
    processor = bench.processor(sink=Record(), inference={"max_batch": 1, "max_concurrency": 4})
    assert await bench.try_once(processor) == 1
    assert 3 <= len(model.calls) <= 6


@pytest.mark.parametrize(
    "error",
    [
        InferenceMisconfiguredError("404 Not Found", status=404),
        InferenceUnavailableError("429", status=429, not_begun=True, retry_after=0.0),
    ],
)
async def test_where_asking_on_helps_nobody_no_call_follows(bench: Bench, error: Exception) -> None:
    bench.model = model = Paid(error, 1.0)
    await bench.feed(range(100, 200))
    processor = bench.processor(sink=Record(), inference={"max_batch": 1, "max_concurrency": 4})
    assert await bench.try_once(processor) == 1
    assert len(model.calls) == 4


@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.2])
@pytest.mark.parametrize("kind", list(GONE))
async def test_each_item_is_paid_once_whatever_fails(bench: Bench, kind: str, rate: float) -> None:
    bench.model = model = Paid(GONE[kind], rate, frozenset({133}))
    await bench.feed(range(100, 200), range(200, 300))
    processor = bench.processor(sink=(sink := Record()), inference={"max_batch": 1}, attempts=30)
    await bench.settle(processor)
    assert values(sink) == twice(n for n in range(100, 300) if n != 133)
    assert [letter.error for letter in await bench.dead()] == ["422: row is bad"]
    assert set(model.paid.values()) == {1}


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
async def test_killed_workers_cost_what_they_had_under_way(bench: Bench, rate: float) -> None:
    deadly = frozenset({20, 90})
    bench.model = model = Paid(GONE["429"], rate, deadly=deadly)
    await bench.feed(range(100, 200))
    processor = bench.processor(sink=(sink := Record()), inference={"max_batch": 1}, attempts=30)
    deaths = await bench.die_and_go_on(processor, model.dies)
    assert deaths == len(deadly)
    assert values(sink) == twice(range(100, 200))
    again = sum(count - 1 for count in model.paid.values())
    assert again <= deaths * 8
