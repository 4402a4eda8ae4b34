"""The search for bad items goes on where it stopped: what was answered is not asked again."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, cast

import pytest

from sinfer import Result, Window
from sinfer.embedded.model_process import ModelServer
from sinfer.errors import (
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference.v2.client import V2Client
from sinfer.inference.v2.config import V2Config
from tests.integration.worker.bench import Bench, Judging, Model, Record

pytestmark = pytest.mark.integration

GONE = InferenceUnavailableError("POST http://model: ReadError")


class Refusing(Model):
    """Refuses some numbers, and is unavailable or ends the worker at some calls.

    Attributes:
        bad: the numbers that are refused, and how.
        gone: the calls, from 1, at which there is no answer.
        deadly: those that end the worker.
        dies: set when it has died.
        answered: the requests that were answered or refused.
    """

    def __init__(
        self,
        bad: dict[int, Exception],
        gone: AbstractSet[int] = frozenset(),
        deadly: AbstractSet[int] = frozenset(),
    ) -> None:
        super().__init__()
        self.bad = bad
        self.gone = gone
        self.deadly = deadly
        self.dies = asyncio.Event()
        self.answered: list[tuple[int, ...]] = []

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        self.calls.append((request, idempotency_key))
        if len(self.calls) in self.gone:
            raise GONE
        if len(self.calls) in self.deadly:
            self.dies.set()
            await asyncio.Event().wait()
        self.answered.append(tuple(request))
        for number, error in self.bad.items():
            if number in request:
                raise error
        return [2 * number for number in request]


def twice(numbers: Any) -> list[int]:
    return sorted(2 * n for n in numbers)


def values(sink: Record) -> list[int]:
    return sorted(int(data) for _, data in sink.written)


REJECTED = InferenceRejectedError("422: row is bad")


@pytest.mark.parametrize("bad", [100, 117, 149])
@pytest.mark.parametrize("gone", [{2}, {3, 4}, {5}, {2, 4, 6, 8, 10, 12}])
async def test_an_outage_in_the_search_costs_the_calls_that_met_it_and_no_others(
    bench: Bench, bad: int, gone: set[int]
) -> None:
    bench.model = model = Refusing({bad: REJECTED}, gone)
    await bench.feed(range(100, 150))
    await bench.settle(bench.processor(sink=(sink := Record()), attempts=20))
    assert values(sink) == twice(n for n in range(100, 150) if n != bad)
    [letter] = await bench.dead()
    assert (letter.message.data, letter.error) == (b"%d" % bad, "422: row is bad")
    assert [n for n, count in Counter(model.answered).items() if count > 1] == []
    assert len(model.answered) <= 13


async def test_a_worker_that_is_killed_in_the_search_leaves_what_it_found(bench: Bench) -> None:
    bench.model = model = Refusing({117: REJECTED}, deadly={5})
    await bench.feed(range(100, 150))
    processor = bench.processor(sink=(sink := Record()))
    assert await bench.die_and_go_on(processor, model.dies) == 1
    assert values(sink) == twice(n for n in range(100, 150) if n != 117)
    assert [letter.error for letter in await bench.dead()] == ["422: row is bad"]
    assert max(Counter(model.answered).values()) == 1


async def test_workers_that_die_again_and_again_leave_what_they_found_as_well(
    bench: Bench,
) -> None:
    """After two deaths the items are tried in groups, of what is not known yet alone."""
    bench.model = model = Refusing({117: REJECTED}, {14, 18}, {5, 8, 11, 16})
    await bench.feed(range(100, 150))
    processor = bench.processor(sink=(sink := Record()), attempts=20)
    assert await bench.die_and_go_on(processor, model.dies) == 4
    assert values(sink) == twice(n for n in range(100, 150) if n != 117)
    assert [letter.error for letter in await bench.dead()] == ["422: row is bad"]
    answered = Counter(n for request in model.answered if 117 not in request for n in request)
    assert set(answered.values()) == {1}


async def test_a_window_in_several_calls_keeps_each_answer(bench: Bench) -> None:
    bench.model = model = Refusing({}, {3, 5})
    await bench.feed(range(100, 150))
    processor = bench.processor(sink=(sink := Record()), inference={"max_batch": 10}, attempts=9)
    await bench.settle(processor)
    assert values(sink) == twice(range(100, 150))
    assert sorted(model.answered) == [tuple(range(n, n + 10)) for n in range(100, 150, 10)]


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (InferenceServerError("500: this value breaks the model"), "500: this value breaks"),
        (InferenceRejectedError("422: row is bad"), "422: row is bad"),
        (InvalidResponseError("200 OK: no JSON"), "200 OK: no JSON"),
    ],
)
async def test_what_is_given_up_quotes_what_the_model_said_first(
    bench: Bench, first: Exception, told: str
) -> None:
    """It answers once; from then on nothing is heard of it."""
    bench.model = model = Refusing({117: first}, set(range(2, 1000)))
    await bench.feed([117, 118])
    await bench.settle(bench.processor(sink=Record(), attempts=3))
    assert len(model.answered) == 1
    for letter in await bench.dead():
        assert letter.error.startswith(f"given up after 3 attempts (max_attempts): {told}")
        assert letter.error.endswith("; then: POST http://model: ReadError")


async def test_in_the_last_try_what_was_answered_before_keeps_its_results(bench: Bench) -> None:
    bench.model = Refusing({117: REJECTED}, set(range(3, 1000)))
    await bench.feed(range(100, 150))
    await bench.settle(bench.processor(sink=(sink := Record()), attempts=3))
    assert values(sink) == []
    bench.model = Refusing({117: REJECTED}, set(range(6, 1000)))
    await bench.feed(range(100, 150))
    await bench.settle(bench.processor(sink=sink, attempts=3))
    assert values(sink) == twice(range(100, 112))


async def test_items_that_ask_for_another_try_and_a_search_that_is_broken_off(
    bench: Bench,
) -> None:
    Judging.patience.update({103: 2, 140: 1})
    bench.model = model = Refusing({117: REJECTED}, {3, 6})
    await bench.feed([*range(100, 150), 99])  # 99 is filtered out
    await bench.settle(bench.processor(sink=(sink := Record()), attempts=20))
    assert values(sink) == twice(n for n in range(100, 150) if n != 117)
    answered = Counter(n for request in model.answered if 117 not in request for n in request)
    assert answered[103] == 3
    assert answered[140] == 2
    assert {n for n, count in answered.items() if count > 1} == {103, 140}


async def test_repeats_are_not_asked_about_after_an_outage(bench: Bench) -> None:
    class Named(Judging):
        def item_id(self, item: int) -> int:
            return item % 10

    bench.model = model = Refusing({4: REJECTED}, {3, 5})
    await bench.feed([*range(10), 13, 15, 19])
    processor = bench.processor(Named, dedupe="first", sink=(sink := Record()), attempts=9)
    await bench.settle(processor)
    assert values(sink) == twice(n for n in range(10) if n != 4)
    assert [letter.message.data for letter in await bench.dead()] == [b"4"]
    assert max(Counter(model.answered).values()) == 1


async def test_what_a_sample_found_is_asked_again_once_the_model_is_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of everything is doubted, so nothing that it said of items stands."""
    bench.model = model = Refusing(dict.fromkeys(range(100, 150), REJECTED))
    await bench.feed(range(100, 150))
    processor = bench.processor(sink=(sink := Record()))

    async def holds(*args: Any, **kwargs: Any) -> Any:
        from sinfer.worker.refusal_judge import Held

        model.bad = {}
        return Held("the model may refuse everything", 0)

    monkeypatch.setattr(processor._judge, "holds", holds)
    await bench.settle(processor)
    assert values(sink) == twice(range(100, 150))
    assert await bench.dead() == []


async def test_of_a_window_that_one_model_call_answers_nothing_more_is_stored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[Any] = []
    store_output: Callable[..., Any] = bench.claims.store_output

    async def noted(claim: Any, **kept: Any) -> Any:
        stored.append({name for name, value in kept.items() if value})
        return await store_output(claim, **kept)

    monkeypatch.setattr(bench.claims, "store_output", noted)
    await bench.feed([1, 2, 3])
    await bench.settle(bench.processor(sink=Record()))
    assert stored == [{"output"}]


async def test_windows_that_are_taken_in_parts_only_are_told_in_status(bench: Bench) -> None:
    class Small(Model):
        async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
            if len(request) > 16:
                raise InferenceRejectedError("413 Content Too Large")
            return await super().infer(request, idempotency_key=idempotency_key)

    bench.model = Small()
    await bench.feed(range(100, 150), range(150, 200))
    await bench.settle(bench.processor(sink=(sink := Record())))
    assert values(sink) == twice(range(100, 200))
    [told] = [line for line in await bench.trouble() if "max_batch" in line]
    assert told.startswith(
        "the model refuses 50 items at once and takes them in parts, which costs"
    )


class Breaking(Model):
    """Gives no answer about some numbers; after each time it takes a while to come back.

    Attributes:
        bad: the numbers.
        pause: how many calls find nobody after each of them.
    """

    def __init__(self, bad: set[int], pause: int = 0) -> None:
        super().__init__()
        self.bad = bad
        self.pause = pause
        self._away = 0

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        self.calls.append((request, idempotency_key))
        if self._away:
            self._away -= 1
            raise InferenceUnavailableError("ConnectError", not_begun=True)
        if self.bad.intersection(request):
            self._away = self.pause
            raise GONE
        return [2 * number for number in request]


@pytest.mark.parametrize("pause", [0, 2])
@pytest.mark.parametrize("bad", [{100}, {117}, {100, 101, 149}])
async def test_an_item_that_the_model_breaks_down_of_is_found_in_the_last_try(
    bench: Bench, bad: set[int], pause: int
) -> None:
    bench.model = model = Breaking(bad, pause)
    await bench.feed(range(100, 150))
    await bench.settle(bench.processor(sink=(sink := Record()), attempts=3))
    assert values(sink) == twice(n for n in range(100, 150) if n not in bad)
    letters = await bench.dead()
    assert {int(letter.message.data) for letter in letters} == bad
    assert {letter.error for letter in letters} == {"POST http://model: ReadError"}
    assert len(model.calls) < 50 * (1 + pause)


async def test_a_model_that_gives_no_answer_about_any_item_is_not_asked_about_each(
    bench: Bench,
) -> None:
    bench.model = model = Breaking(set(range(100, 150)))
    await bench.feed(range(100, 150))
    await bench.settle(bench.processor(sink=Record(), attempts=3))
    letters = await bench.dead()
    assert len(letters) == 50
    assert {letter.error for letter in letters} == {
        "given up after 3 attempts (max_attempts): POST http://model: ReadError"
    }
    assert len(model.calls) <= 15


class Features(Judging):
    """Asks the embedded model, which answers with the first of 16 features."""

    def build_request(self, window: Window[int]) -> Any:
        data = [[float(n)] * 16 for n in window]
        return {
            "inputs": [{"name": "x", "shape": [len(window), 16], "datatype": "FP32", "data": data}]
        }

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(2 * int(y)) for y in response.outputs["y"]]


@pytest.mark.parametrize("mode", ["close_midway", "hang"])
async def test_a_real_server_that_breaks_off_or_hangs_at_one_item_harms_that_item_alone(
    bench: Bench, model_server: ModelServer, mode: str
) -> None:
    model_server.reset()
    model_server.order({"mode": mode, "value": 103.0, "count": None})
    config = V2Config(url=model_server.url, model="example", timeout="700ms")
    bench.model = cast("Any", V2Client(config))
    await bench.feed(range(100, 108), range(150, 160))
    breaker = {"breaker_failures": 3}
    processor = bench.processor(Features, inference=breaker, sink=(sink := Record()), attempts=2)
    await bench.settle(processor)
    assert values(sink) == twice([*range(100, 103), *range(104, 108), *range(150, 160)])
    [letter] = await bench.dead()
    assert letter.message.data == b"103"
    told = "no answer within 700ms" if mode == "hang" else "(ReadError|RemoteProtocolError)"
    assert re.search(told, letter.error)
    model_server.reset()
