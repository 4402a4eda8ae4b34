"""From a window to rows: how it is cut, who is blamed, and what hooks may do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from itertools import count
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, field_serializer

from sinfer import (
    InferenceClient,
    InferenceConfig,
    InferPipeline,
    InferTaskConfig,
    Message,
    Result,
    Window,
)
from sinfer.encoding import from_json
from sinfer.errors import (
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.worker import task_model
from sinfer.worker.model_step import Inferrer
from sinfer.worker.outcome import Failure
from sinfer.worker.task_model import TaskModel

BAD = -1


class Doubling(InferenceClient):
    """Doubles numbers and notes each call; what it does otherwise is given to it.

    Args:
        instead: is asked before each call with the number of the call and its request; what it
            returns, if anything, is the answer.
    """

    def __init__(self, instead: Callable[[int, list[int]], Any] | None = None) -> None:
        super().__init__(InferenceConfig(type="doubling"))
        self.calls: list[list[int]] = []
        self.keys: list[str] = []
        self._instead = instead

    async def infer(self, request: list[int], *, idempotency_key: str = "") -> Any:
        self.calls.append(request)
        self.keys.append(idempotency_key)
        if self._instead is not None:
            answer = self._instead(len(self.calls), request)
            if answer is not None:
                return answer
        return [2 * number for number in request]


def raising(
    error: Exception, *, when: Callable[[int, list[int]], bool]
) -> Callable[[int, list[int]], None]:
    def instead(call: int, request: list[int]) -> None:
        if when(call, request):
            raise error

    return instead


class Numbers(InferPipeline[InferTaskConfig, int]):
    def preprocess(self, message: Message) -> int | None:
        return int(message.data)

    def build_request(self, window: Window[int]) -> Any:
        return list(window)

    def build_results(
        self, window: Window[int], response: Any
    ) -> list[Result] | Awaitable[list[Result]]:
        return [Result({"n": n, "twice": y}) for n, y in zip(window, response, strict=True)]


def inferrer(
    client: InferenceClient,
    pipeline: type[InferPipeline[Any, Any]] = Numbers,
    **inference: Any,
) -> Inferrer:
    return Inferrer(TaskModel(inferrer_pipeline(pipeline, **inference), client))


def inferrer_pipeline(
    pipeline: type[InferPipeline[Any, Any]] = Numbers, **inference: Any
) -> InferPipeline[Any, Any]:
    task = InferTaskConfig.model_validate(
        {
            "id": "t",
            "source": {"stream": "S"},
            "window": {"type": "count", "count": 100},
            "inference": {"type": "python", "call": "operator:index", **inference},
            "sinks": [{"type": "log"}],
        }
    )
    return pipeline(task)


def window(numbers: Sequence[int]) -> Window[int]:
    messages = [Message(b"%d" % number) for number in numbers]
    return Window(numbers, messages, id="t/>/all/1", task="t")


async def test_each_item_gets_its_result_in_its_place() -> None:
    client = Doubling()
    outcome = await inferrer(client).infer(window([5, 6, 7]))
    assert [(row.ordinal, from_json(row.data)) for row in outcome.rows] == [
        (0, {"n": 5, "twice": 10}),
        (1, {"n": 6, "twice": 12}),
        (2, {"n": 7, "twice": 14}),
    ]
    assert outcome.failures == []


async def test_a_window_is_cut_by_max_batch_and_ordinals_go_on() -> None:
    client = Doubling()
    outcome = await inferrer(client, max_batch=3).infer(window(range(8)))
    assert client.calls == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [row.ordinal for row in outcome.rows] == list(range(8))


async def test_each_part_has_an_idempotency_key_that_is_the_same_for_every_try() -> None:
    first, again = Doubling(), Doubling()
    await inferrer(first, max_batch=2).infer(window(range(4)))
    await inferrer(again, max_batch=2).infer(window(range(4)))
    assert first.keys == again.keys
    assert len(set(first.keys)) == 2


@pytest.mark.parametrize("place", [0, 1, 31, 32, 62, 63])
async def test_one_bad_of_64_costs_one_result_and_at_most_13_calls(place: int) -> None:
    client = Doubling(
        raising(InferenceRejectedError("row is bad"), when=lambda _, request: BAD in request)
    )
    numbers = [BAD if n == place else n for n in range(64)]
    outcome = await inferrer(client).infer(window(numbers))
    assert [row.ordinal for row in outcome.rows] == [n for n in range(64) if n != place]
    assert outcome.failures == [Failure(place, place, "inference", "row is bad")]
    assert len(client.calls) <= 13


async def test_several_bad_ones_are_all_found() -> None:
    client = Doubling(
        raising(InferenceRejectedError("row is bad"), when=lambda _, request: BAD in request)
    )
    outcome = await inferrer(client, max_batch=8).infer(window([1, BAD, 3, BAD, BAD, 6]))
    assert sorted(failure.first for failure in outcome.failures) == [1, 3, 4]
    assert sorted(row.ordinal for row in outcome.rows) == [0, 2, 5]


async def test_a_500_is_tried_once_more_before_anyone_is_blamed() -> None:
    client = Doubling(raising(InferenceServerError("hiccup"), when=lambda call, _: call == 1))
    outcome = await inferrer(client).infer(window([1, 2, 3]))
    assert client.calls == [[1, 2, 3], [1, 2, 3]]
    assert client.keys[0] == client.keys[1]
    assert len(outcome.rows) == 3


async def test_a_500_that_stays_leads_to_the_culprit() -> None:
    client = Doubling(
        raising(InferenceServerError("crash"), when=lambda _, request: BAD in request)
    )
    outcome = await inferrer(client).infer(window([1, 2, BAD, 4]))
    assert outcome.failures == [Failure(2, 2, "inference", "crash")]
    assert len(outcome.rows) == 3


@pytest.mark.parametrize(
    "error", [InferenceUnavailableError("away"), InferenceMisconfiguredError("wrong model")]
)
async def test_what_no_item_is_to_blame_for_is_raised_after_one_call(error: Exception) -> None:
    client = Doubling(raising(error, when=lambda *_: True))
    with pytest.raises(type(error)):
        await inferrer(client).infer(window(range(64)))
    assert len(client.calls) == 1


async def test_an_answer_that_cannot_be_read_blames_nobody_at_first() -> None:
    client = Doubling(raising(InvalidResponseError("no JSON"), when=lambda *_: True))
    with pytest.raises(InvalidResponseError):
        await inferrer(client).infer(window(range(64)))
    assert len(client.calls) == 1


async def test_in_the_last_try_the_item_is_found_whose_answer_cannot_be_read() -> None:
    client = Doubling(
        raising(InvalidResponseError("no JSON"), when=lambda _, request: BAD in request)
    )
    outcome = await inferrer(client).infer(window([1, 2, BAD, 4]), last_try=True)
    assert outcome.failures == [Failure(2, 2, "inference", "no JSON")]
    assert len(outcome.rows) == 3


# --- how many results ---


class Lossy(Numbers):
    """Leaves out the result of the bad item."""

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(y) for n, y in zip(window, response, strict=True) if n != BAD]


async def test_too_few_results_for_a_part_with_a_bad_item_blame_that_item() -> None:
    outcome = await inferrer(Doubling(), Lossy).infer(window([1, 2, BAD, 4]))
    assert [row.ordinal for row in outcome.rows] == [0, 1, 3]
    [failure] = outcome.failures
    assert (failure.first, failure.last, failure.stage) == (2, 2, "results")
    assert "returned 0 results for 1 items" in failure.error


class Summary(Numbers):
    results_per = "window"

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(sum(response))]


async def test_a_window_with_one_result_is_asked_about_as_a_whole() -> None:
    client = Doubling()
    outcome = await inferrer(client, Summary, max_batch=2).infer(window([1, 2, 3]))
    assert client.calls == [[1, 2, 3]]
    assert [(row.ordinal, row.data) for row in outcome.rows] == [(0, b"12")]


async def test_a_window_with_one_result_fails_as_a_whole() -> None:
    client = Doubling(raising(InferenceRejectedError("no"), when=lambda *_: True))
    outcome = await inferrer(client, Summary).infer(window([1, 2, 3]))
    assert outcome.failures == [Failure(0, 2, "inference", "no")]
    assert len(client.calls) == 1


class TwoSummaries(Summary):
    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(1), Result(2)]


async def test_two_results_where_one_is_due_are_an_error() -> None:
    outcome = await inferrer(Doubling(), TwoSummaries).infer(window([1, 2]))
    [failure] = outcome.failures
    assert (failure.first, failure.last, failure.stage) == (0, 1, "results")
    assert "results_per = 'window' asks for 1" in failure.error


class OddOnes(Numbers):
    results_per = "any"

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(y) for n, y in zip(window, response, strict=True) if n % 2]


@pytest.mark.parametrize(("numbers", "rows"), [([1, 2, 3, 4, 5], 3), ([2, 4], 0)])
async def test_any_number_of_results_is_right_where_the_pipeline_says_so(
    numbers: list[int], rows: int
) -> None:
    outcome = await inferrer(Doubling(), OddOnes).infer(window(numbers))
    assert [row.ordinal for row in outcome.rows] == list(range(rows))
    assert outcome.failures == []


# --- hooks ---


class Asynchronous(Numbers):
    async def build_request(self, window: Window[int]) -> list[int]:
        return list(window)

    async def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(y) for y in response]


async def test_hooks_may_be_asynchronous() -> None:
    outcome = await inferrer(Doubling(), Asynchronous).infer(window([1, 2]))
    assert [row.data for row in outcome.rows] == [b"2", b"4"]


class Picky(Numbers):
    def build_request(self, window: Window[int]) -> list[int]:
        if BAD in window:
            raise ValueError("a\nbad one")
        return list(window)


async def test_an_item_that_no_request_can_be_built_of_fails_alone() -> None:
    outcome = await inferrer(Doubling(), Picky).infer(window([1, BAD, 3]))
    assert outcome.failures == [Failure(1, 1, "request", "build_request: ValueError: a bad one")]
    assert [row.ordinal for row in outcome.rows] == [0, 2]


class Explosive(Numbers):
    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(1 / (n - BAD)) for n in window]


async def test_an_item_whose_result_cannot_be_built_fails_alone() -> None:
    outcome = await inferrer(Doubling(), Explosive).infer(window([1, BAD, 3]))
    [failure] = outcome.failures
    assert (failure.first, failure.last, failure.stage) == (1, 1, "results")
    assert failure.error == "build_results: ZeroDivisionError: division by zero"


class Judging(Numbers):
    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [
            Result.failed("too small") if n < 0 else Result.retry("too early") if n == 0
            else Result(object()) if n > 9 else Result(n)
            for n in window
        ]  # fmt: skip


async def test_the_product_may_give_up_single_items_or_ask_for_another_try() -> None:
    outcome = await inferrer(Doubling(), Judging).infer(window([1, -5, 0, 3]))
    assert [row.ordinal for row in outcome.rows] == [0, 3]
    assert outcome.failures == [
        Failure(1, 1, "results", "too small"),
    ]
    assert outcome.retries == [Failure(2, 2, "results", "too early")]


async def test_a_result_that_json_has_no_form_for_fails_alone() -> None:
    outcome = await inferrer(Doubling(), Judging).infer(window([1, 10, 3]))
    assert [row.ordinal for row in outcome.rows] == [0, 2]
    [failure] = outcome.failures
    assert (failure.first, failure.stage) == (1, "results")
    assert "object cannot be written as JSON" in failure.error


class Odd:
    """Things that are no result, or whose data no sink can have, by the number of their item."""

    @staticmethod
    def deep() -> Any:
        data: list[Any] = []
        for _ in range(100_000):
            data = [data]
        return data

    @staticmethod
    def cyclic() -> Any:
        data: dict[str, Any] = {}
        data["self"] = data
        return data

    class Model(BaseModel):
        value: int

        @field_serializer("value")
        def _value(self, value: int) -> int:
            raise SystemExit(4)

    class Array:
        def tolist(self) -> Any:
            raise KeyboardInterrupt

    class Property(Result):
        @property
        def data(self) -> Any:
            raise GeneratorExit


def _odd_property() -> Any:
    return object.__new__(Odd.Property)


ODD: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "build_results returned None instead of a Result"),
    (lambda: {"y": 1}, "build_results returned a value of type dict instead of a Result"),
    (lambda: "text", "build_results returned a value of type str instead of a Result"),
    (lambda: Result, "build_results returned a value of type type instead of a Result"),
    (lambda: Result(Odd.deep()), "result cannot be written as JSON: RecursionError"),
    (lambda: Result(Odd.cyclic()), "result cannot be written as JSON: RecursionError"),
    (lambda: Result("\ud800"), "result cannot be written as JSON: UnicodeEncodeError"),
    (lambda: Result(object()), "result cannot be written as JSON: TypeError: object"),
    (lambda: Result({(1, 2): 3}), "result cannot be written as JSON: TypeError"),
    (
        lambda: Result(Odd.Model(value=1)),
        "result cannot be written as JSON: PydanticSerializationError",
    ),
    (lambda: Result(Odd.Array()), "result cannot be written as JSON: KeyboardInterrupt"),
    (lambda: Result(n for n in (1, 2)), "result cannot be written as JSON: TypeError: generator"),
    (_odd_property, "build_results: its result cannot be read: "),
    (lambda: Result(outcome="fine"), "build_results: outcome 'fine' is none of ok, failed"),  # type: ignore[arg-type]
    (lambda: Result(outcome=[]), "build_results: outcome [] is none of ok, failed"),  # type: ignore[arg-type]
    (lambda: Result.failed(None), "None"),  # type: ignore[arg-type]
    (lambda: Result.failed("\ud800 lone"), r"\ud800 lone"),
]


async def test_an_odd_result_harms_its_own_item_with_the_true_reason_at_the_first_try() -> None:
    class Pipeline(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            return [ODD[n][0]() if n < len(ODD) else Result(n) for n in window]

    client = Doubling()
    outcome = await inferrer(client, Pipeline).infer(window(range(len(ODD) + 5)))
    assert [row.ordinal for row in outcome.rows] == [len(ODD) + n for n in range(5)]
    assert [(f.first, f.last, f.stage) for f in outcome.failures] == [
        (n, n, "results") for n in range(len(ODD))
    ]
    for failure, (_, told) in zip(outcome.failures, ODD, strict=True):
        assert failure.error.startswith(told)
    assert len(client.calls) == 1
    assert outcome.retries == []


async def test_numbers_and_text_of_libraries_are_results_like_others() -> None:
    class Pipeline(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            values = [np.float32(0.5), np.int64(3), np.str_("a"), np.array([1, 2]), float("nan")]
            values += [b"\x00\xff", Decimal("1.5"), np.bool_(True)]
            return [Result(value) for value in values]

    outcome = await inferrer(Doubling(), Pipeline).infer(window(range(8)))
    assert outcome.failures == []
    assert [from_json(row.data) for row in outcome.rows] == [
        0.5, 3, "a", [1, 2], None, "AP8=", "1.5", True,
    ]  # fmt: skip


class LyingList(list[Any]):
    def __len__(self) -> int:
        return 10**12

    def __bool__(self) -> bool:
        raise SystemExit


def _breaks_off() -> Any:
    yield Result(1)
    raise SystemExit(9)


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda: None, "build_results: returned None, not a list of Result"),
        (lambda: {"y": 1}, "build_results: returned a value of type dict, not a list of Result"),
        (lambda: "ab", "build_results: returned a value of type str, not a list of Result"),
        (lambda: Result(1), "build_results: returned a single Result, not a list of them"),
        (lambda: 5, "build_results: returned a value of type int, not a list of Result"),
        (_breaks_off, "build_results: SystemExit: 9 (it asked for the end of the process)"),
        (lambda: (Result(n) for n in count()), "build_results: returned more than 1 results for 1"),
        (lambda: LyingList([Result(1)] * 3), "build_results: returned more than 1 results"),
        (lambda: [], "build_results: returned 0 results for 1 items; results_per = 'item' asks"),
    ],
)
async def test_what_is_no_list_of_results_is_told_for_each_item(
    returned: Callable[[], Any], told: str
) -> None:
    class Pipeline(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            if 1 in window:
                found: list[Result] = returned()
                return found
            return [Result(n) for n in window]

    outcome = await inferrer(Doubling(), Pipeline).infer(window(range(4)))
    assert [row.ordinal for row in outcome.rows] == [0, 2, 3]
    [failure] = outcome.failures
    assert (failure.first, failure.last, failure.stage) == (1, 1, "results")
    assert failure.error.startswith(told)


async def test_a_list_that_lies_about_its_length_is_read_all_the_same() -> None:
    class Pipeline(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            return LyingList(Result(n) for n in window)

    outcome = await inferrer(Doubling(), Pipeline).infer(window(range(4)))
    assert [row.ordinal for row in outcome.rows] == [0, 1, 2, 3]


async def test_a_results_generator_without_end_is_no_end_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Pipeline(Numbers):
        results_per = "any"

        def build_results(self, window: Window[int], response: Any) -> Any:
            return (Result(n) for n in count())

    monkeypatch.setattr(task_model, "MOST_RESULTS", 1000)
    outcome = await inferrer(Doubling(), Pipeline).infer(window(range(4)))
    [failure] = outcome.failures
    assert failure.error.startswith("build_results: returned more than 1000 results for 4 items")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("hook", ["build_request", "build_results", "infer"])
async def test_whatever_is_raised_for_one_item_harms_that_item_alone(
    hook: str, error: BaseException
) -> None:
    def judge(step: str, numbers: Any) -> None:
        if step == hook and 5 in numbers:
            raise error

    class Pipeline(Numbers):
        async def build_request(self, window: Window[int]) -> Any:
            judge("build_request", window)
            return list(window)

        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            judge("build_results", window)
            return [Result(n) for n in window]

    client = Doubling(lambda _, request: judge("infer", request))
    outcome = await inferrer(client, Pipeline).infer(window(range(16)))
    assert [row.ordinal for row in outcome.rows] == [n for n in range(16) if n != 5]
    [failure] = outcome.failures
    assert (failure.first, failure.last) == (5, 5)
    assert failure.error.startswith(f"{hook}: {type(error).__name__}")


async def test_a_client_of_one_s_own_that_has_no_connection_or_no_end_is_unavailable() -> None:
    client = Doubling(raising(ConnectionRefusedError("port 1"), when=lambda *_: True))
    with pytest.raises(InferenceUnavailableError, match="ConnectionRefusedError: port 1"):
        await inferrer(client).infer(window([1]))

    class Endless(Doubling):
        async def infer(self, request: list[int], *, idempotency_key: str = "") -> Any:
            await asyncio.Event().wait()

    asker = Inferrer(TaskModel(inferrer_pipeline(), Endless(), most_s=0.05))
    with pytest.raises(InferenceUnavailableError, match=r"its client gave no answer within 0\.05s"):
        await asker.infer(window([1]))


# --- everything is refused ---


@pytest.mark.parametrize("size", [8, 64, 1000])
async def test_a_large_window_that_is_refused_whole_is_sampled(size: int) -> None:
    client = Doubling(raising(InferenceRejectedError("row 17 is bad"), when=lambda *_: True))
    _, refusal = await inferrer(client).search(window(range(size)), sample=True)
    assert refusal is not None
    assert refusal.is_sample
    assert (refusal.stage, refusal.reason) == ("inference", "row 17 is bad")
    assert len(client.calls) <= 14
    assert client.calls[-1] == [size - 1]


@pytest.mark.parametrize("good", [0, 1, 2, 13, 32, 62, 63])
async def test_a_single_good_one_among_bad_ones_gets_its_result_in_the_end(good: int) -> None:
    client = Doubling(
        raising(InferenceRejectedError("bad"), when=lambda _, request: set(request) != {good})
    )
    outcome, refusal = await inferrer(client).search(window(range(64)), sample=True)
    if refusal is not None and refusal.is_sample:  # it was in no sample
        outcome, refusal = await inferrer(client).search(window(range(64)), sample=False)
    assert refusal is None
    assert [row.ordinal for row in outcome.rows] == [good]
    assert sorted(f.first for f in outcome.failures) == [n for n in range(64) if n != good]


@pytest.mark.parametrize("place", [0, 1, 31, 32, 62, 63])
async def test_one_bad_of_64_costs_no_more_where_windows_are_sampled(place: int) -> None:
    client = Doubling(
        raising(InferenceRejectedError("bad"), when=lambda _, request: place in request)
    )
    outcome, refusal = await inferrer(client).search(window(range(64)), sample=True)
    assert refusal is None
    assert len(outcome.rows) == 63
    assert len(client.calls) <= 13


async def test_what_the_product_gives_up_itself_is_no_refusal() -> None:
    class Choosy(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            return [Result.failed("not wanted") for _ in window]

    outcome, refusal = await inferrer(Doubling(), Choosy).search(window(range(20)), sample=True)
    assert refusal is None
    assert len(outcome.failures) == 20


async def test_items_refused_for_different_reasons_are_no_refusal_of_everything() -> None:
    def instead(call: int, request: list[int]) -> None:
        raise InferenceRejectedError("too long" if request[0] % 2 else "has no name")

    _, refusal = await inferrer(Doubling(instead)).search(window(range(4)))
    assert refusal is None
