"""Small windows share calls of the model, and nobody can tell from what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest

from sinfer import Message, Result, Window
from sinfer.errors import (
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.store.history.ledger import LedgerEntry, read_ledger
from sinfer.worker.process import WindowProcessor
from tests.integration.worker.bench import Bench, Judging, Model, Record
from tests.support.until import until

pytestmark = pytest.mark.integration

SHARED = {"share_calls": 64}
TIMED_OUT = InferenceUnavailableError("POST http://model: no answer within 5s")
LIMITED = InferenceUnavailableError("429 Too Many Requests", status=429, not_begun=True)


class Particular(Model):
    """Fails where it is asked about some numbers.

    Attributes:
        bad: what it raises for which.
        delay_s: how long a call takes.
    """

    def __init__(self, bad: Mapping[int, Exception] | None = None, delay_s: float = 0.0) -> None:
        super().__init__()
        self.bad = bad or {}
        self.delay_s = delay_s

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        answer = await super().infer(request, idempotency_key=idempotency_key)
        await asyncio.sleep(self.delay_s)
        for number, error in self.bad.items():
            if number in request:
                raise error
        return answer


class Keyed(Judging):
    """Wants to know the key for its request."""

    def build_request(self, window: Window[int]) -> list[int]:
        assert window.key
        return list(window)


class KeyedResults(Judging):
    """Wants to know the key for its results."""

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result({"key": window.key, "y": y}) for y in response]


def fives(windows: int, first: int = 0) -> list[range]:
    """Numbers for windows of five."""
    return [range(first + 5 * n, first + 5 * n + 5) for n in range(windows)]


def twice(numbers: Iterable[int]) -> list[int]:
    return sorted(2 * n for n in numbers)


def values(sink: Record) -> list[int]:
    return sorted(int(data) for _, data in sink.written)


async def together(bench: Bench, processor: WindowProcessor) -> None:
    """Try every window that may be tried now, all of them at once."""
    claims = await bench.claim(200, lease_ms=60_000)
    contents = await bench.claims.read(claims)
    pairs = zip(claims, contents, strict=True)
    await asyncio.gather(*(processor.process(claim, messages) for claim, messages in pairs))


async def settle(bench: Bench, processor: WindowProcessor) -> None:
    """Try windows, all at once, until none is left."""

    async def is_settled() -> bool:
        await together(bench, processor)
        return not await bench.claims.waiting()

    await until(is_settled, every_s=0.02)


async def ledger(bench: Bench) -> list[LedgerEntry]:
    found = [finished.entry async for finished in read_ledger(bench.store, bench.scope)]
    return sorted(found, key=lambda entry: entry.window)


async def test_windows_that_are_ready_together_share_calls(bench: Bench) -> None:
    await bench.feed(*fives(40, first=1000))
    await together(bench, bench.processor(sink=(sink := Record()), inference=SHARED))
    assert values(sink) == twice(range(1000, 1200))
    assert [len(request) for request in bench.model.asked] == [60, 60, 60, 20]
    assert len({key for _, key in bench.model.calls}) == 4


async def test_each_window_has_the_same_results_and_the_same_ledger_as_alone(
    bench: Bench,
) -> None:
    """Byte for byte, and with the same keys; only the times differ."""
    found = []
    for inference in (None, SHARED):
        await bench.store.redis.flushdb()
        bench.model = Particular({17: InferenceRejectedError("422: row is bad")})
        await bench.feed(*fives(19), seq=1)
        await together(bench, bench.processor(sink=(sink := Record()), inference=inference))
        times = dict.fromkeys(("closed_ms", "claimed_ms", "inference_ms", "sinks_ms"), 0)
        entries = [msgspec.structs.replace(entry, **times) for entry in await ledger(bench)]
        letters = [(d.message, d.error, d.stage, d.attempts) for d in await bench.dead()]
        found.append((sink.written, entries, letters, await bench.counts()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "error", [InferenceRejectedError("422: row is bad"), InferenceServerError("500: broken")]
)
async def test_one_bad_item_costs_the_others_nothing_but_calls(
    bench: Bench, error: Exception
) -> None:
    bench.model = Particular({23: error})
    await bench.feed(*fives(12))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED, attempts=1)
    await together(bench, processor)
    assert await bench.claims.waiting() == 0
    assert values(sink) == twice(n for n in range(60) if n != 23)
    [letter] = await bench.dead()
    assert (letter.message.data, letter.error) == (b"23", str(error))
    twice_each = 2 if isinstance(error, InferenceServerError) else 1
    assert len(bench.model.calls) <= (2 * 4 + 2 * 3 + 1) * twice_each


async def test_an_item_that_the_model_hangs_on_is_no_attempt_of_the_other_windows(
    bench: Bench,
) -> None:
    bench.model = Particular({23: TIMED_OUT})
    await bench.feed(*fives(12))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED, attempts=1)
    await settle(bench, processor)
    assert values(sink) == twice(n for n in range(60) if n != 23)
    assert [letter.message.data for letter in await bench.dead()] == [b"23"]
    assert [len(request) for request in bench.model.asked[:4]] == [60, 5, 5, 5]
    assert {entry.attempts for entry in await ledger(bench)} == {1}


async def test_an_answer_that_nobody_can_read_is_no_attempt_of_the_other_windows(
    bench: Bench,
) -> None:
    bench.model = Particular({23: InvalidResponseError("200 OK: no JSON")})
    await bench.feed(*fives(12))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED, attempts=2)
    await settle(bench, processor)
    assert values(sink) == twice(n for n in range(60) if n != 23)
    assert [letter.message.data for letter in await bench.dead()] == [b"23"]


async def test_after_a_limit_of_the_endpoint_windows_share_calls_again(bench: Bench) -> None:
    bench.model.errors.extend([LIMITED, LIMITED])
    await bench.feed(*fives(12))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED)

    async def are_ready() -> bool:
        now_ms = await bench.claims.now_ms()
        return await bench.store.redis.zcount(bench.claims.keys.ready, "-inf", now_ms) == 12

    for _ in range(3):
        await until(are_ready)
        await together(bench, processor)
    assert values(sink) == twice(range(60))
    assert [len(request) for request in bench.model.asked] == [60, 60, 60]
    assert {entry.attempts for entry in await ledger(bench)} == {1}


async def test_a_shared_call_without_an_answer_is_one_failure_of_the_endpoint(
    bench: Bench,
) -> None:
    bench.model.errors.append(TIMED_OUT)
    await bench.feed(*fives(12))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED | {"breaker_failures": 2})
    await together(bench, processor)
    await together(bench, processor)
    await settle(bench, processor)
    assert values(sink) == twice(range(60))


async def test_a_request_that_needs_the_key_is_made_for_each_window_and_that_is_told(
    bench: Bench,
) -> None:
    await bench.feed(*fives(12))
    processor = bench.processor(Keyed, sink=(sink := Record()), inference=SHARED)
    await together(bench, processor)
    assert values(sink) == twice(range(60))
    assert [len(request) for request in bench.model.asked] == [5] * 12
    [told] = await bench.trouble()
    assert "inference.share_calls" in told
    assert "window.key" in told


async def test_results_that_need_the_key_are_made_of_each_windows_rows(bench: Bench) -> None:
    await bench.feed(*fives(12))
    processor = bench.processor(KeyedResults, sink=(sink := Record()), inference=SHARED)
    await together(bench, processor)
    assert len(bench.model.calls) == 1
    assert sorted(data for _, data in sink.written) == sorted(
        b'{"key":"k","y":%d}' % (2 * n) for n in range(60)
    )


async def test_a_window_that_is_alone_waits_for_nobody(bench: Bench) -> None:
    await bench.feed(*fives(1))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED | {"share_wait": "10s"})
    began_s = time.monotonic()
    await together(bench, processor)
    assert time.monotonic() - began_s < 5
    assert values(sink) == twice(range(5))


async def test_windows_wait_for_others_that_may_come_but_not_for_long(bench: Bench) -> None:
    await bench.feed(*fives(3))
    processor = bench.processor(
        sink=(sink := Record()), inference=SHARED | {"share_wait": "300ms", "share_calls": 10}
    )
    bench.has_more()
    claims = await bench.claim(3, lease_ms=60_000)
    contents = await bench.claims.read(claims)
    trying = []
    for claim, messages in zip(claims, contents, strict=True):
        trying.append(asyncio.create_task(processor.process(claim, messages)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*trying)
    assert values(sink) == twice(range(15))
    assert [len(request) for request in bench.model.asked] == [10, 5]


async def test_a_window_larger_than_a_shared_call_goes_by_itself(bench: Bench) -> None:
    await bench.feed(range(100, 200), *fives(2))
    processor = bench.processor(sink=(sink := Record()), inference={"share_calls": 20})
    await together(bench, processor)
    assert values(sink) == twice([*range(100, 200), *range(10)])
    assert sorted(len(request) for request in bench.model.asked) == [10, 100]


async def test_max_batch_bounds_shared_calls_as_well(bench: Bench) -> None:
    await bench.feed(*fives(6))
    inference = {"share_calls": 64, "max_batch": 10}
    await together(bench, bench.processor(sink=(sink := Record()), inference=inference))
    assert values(sink) == twice(range(30))
    assert [len(request) for request in bench.model.asked] == [10, 10, 10]


async def test_windows_that_are_broken_off_leave_the_others_their_answer(bench: Bench) -> None:
    bench.model = model = Particular(delay_s=0.1)
    await bench.feed(*fives(4))
    processor = bench.processor(sink=(sink := Record()), inference=SHARED)
    claims = await bench.claim(4, lease_ms=60_000)
    contents = await bench.claims.read(claims)
    trying = [
        asyncio.create_task(processor.process(claim, messages))
        for claim, messages in zip(claims, contents, strict=True)
    ]
    await until(lambda: bool(model.calls), every_s=0.001)
    for task in trying[:2]:
        task.cancel()
    await asyncio.wait(trying)
    left = [int(message.data) for messages in contents[2:] for message in messages]
    assert values(sink) == twice(left)
    for claim in claims[:2]:
        await bench.claims.release(claim)
    await settle(bench, processor)
    assert values(sink) == twice(range(20))


async def test_a_call_that_nobody_waits_for_ends(bench: Bench) -> None:
    bench.model = model = Particular(delay_s=3600)
    await bench.feed(*fives(4))
    processor = bench.processor(sink=Record(), inference=SHARED)
    trying = asyncio.create_task(together(bench, processor))
    await until(lambda: bool(model.calls), every_s=0.001)
    trying.cancel()
    await asyncio.wait([trying], timeout=5)
    await until(
        lambda: "shared call" not in {task.get_name() for task in asyncio.all_tasks()},
        "the call to end",
    )


async def test_what_preprocess_refuses_harms_nobody(bench: Bench) -> None:
    """Messages that are no numbers become dead letters before anything is asked."""

    class Picky(Judging):
        def preprocess(self, message: Message) -> int | None:
            number = int(message.data)
            if number == 7:
                raise ValueError("seven")
            return number

    await bench.feed(*fives(4))
    processor = bench.processor(Picky, sink=(sink := Record()), inference=SHARED)
    await together(bench, processor)
    assert values(sink) == twice(n for n in range(20) if n != 7)
    assert [letter.message.data for letter in await bench.dead()] == [b"7"]
    assert len(bench.model.calls) == 1
