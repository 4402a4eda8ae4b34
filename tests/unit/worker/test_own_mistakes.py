"""Code of the product that fails: the model is asked once, and the true reason is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sinfer import InferPipeline, Result, Window
from sinfer.encoding import from_json, to_json
from sinfer.errors import InferenceRejectedError
from sinfer.inference.openai.embeddings import EmbeddingsResponse
from sinfer.inference.v2.messages import V2Response, decode_response
from sinfer.worker.outcome import Outcome
from tests.unit.worker.test_model_step import BAD, Doubling, Numbers, inferrer, window

ITEMS = 50


def v2(request: list[int]) -> V2Response:
    size = len(request)
    outputs = [
        {"name": "y", "shape": [size], "datatype": "INT64", "data": [2 * n for n in request]},
        {"name": "p", "shape": [size, 2], "datatype": "INT64", "data": list(request) * 2},
    ]
    return decode_response(to_json({"model_name": "m", "outputs": outputs}), None)


def embeddings(request: list[int]) -> EmbeddingsResponse:
    rows = [[float(2 * n)] for n in request]
    data = [{"index": n, "embedding": row} for n, row in enumerate(rows)]
    return EmbeddingsResponse(rows, "m", {}, {"data": data})


@dataclasses.dataclass
class Opaque:
    """An answer of which nobody knows what in it are rows."""

    text: str

    @property
    def shape(self) -> Any:
        raise SystemExit


ANSWERS: dict[str, tuple[Callable[[list[int]], Any], Callable[[Any], list[Any]]]] = {
    "list": (lambda request: [2 * n for n in request], lambda answer: answer),
    "array": (lambda request: 2 * np.array(request), lambda answer: answer),
    "tuple": (lambda request: tuple(2 * n for n in request), lambda answer: list(answer)),
    "mapping": (
        lambda request: {"model": "m", "y": [2 * n for n in request]},
        lambda answer: answer["y"],
    ),
    "nested": (
        lambda request: {"outputs": [{"name": "y", "data": [2 * n for n in request]}]},
        lambda answer: answer["outputs"][0]["data"],
    ),
    "v2": (v2, lambda answer: answer.outputs["y"]),
    "v2_raw": (v2, lambda answer: answer.raw["outputs"][0]["data"]),
    "embeddings": (embeddings, lambda answer: [e[0] for e in answer.embeddings]),
    "embeddings_raw": (
        embeddings,
        lambda answer: [e["embedding"][0] for e in answer.raw["data"]],
    ),
    "opaque": (
        lambda request: Opaque(",".join(str(2 * n) for n in request)),
        lambda answer: [int(y) for y in answer.text.split(",")],
    ),
}
CUT = [name for name in ANSWERS if name != "opaque"]


class Reading(Numbers):
    """Reads one kind of answer."""

    kind = "list"

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        found = ANSWERS[self.kind][1](response)
        return [self.judge(n, int(y)) for n, y in zip(window, found, strict=True)]

    def judge(self, number: int, answer: int) -> Result:
        return Result(answer)


async def asked(
    pipeline: type[InferPipeline[Any, Any]],
    numbers: Any = range(ITEMS),
    *,
    sample: bool = True,
    **inference: Any,
) -> tuple[Outcome, Doubling]:
    kind = getattr(pipeline, "kind", "list")
    client = Doubling(lambda _, request: ANSWERS[kind][0](request))
    outcome, _ = await inferrer(client, pipeline, **inference).search(
        window(list(numbers)), sample=sample
    )
    return outcome, client


def of_kind(kind: str, pipeline: type[Reading]) -> type[Reading]:
    return type("Kind", (pipeline,), {"kind": kind})


# --- every window ---


class UnknownOutput(Reading):
    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        raise KeyError("probabilities")


@pytest.mark.parametrize("kind", CUT)
async def test_an_output_that_is_not_there_costs_one_call(kind: str) -> None:
    outcome, client = await asked(of_kind(kind, UnknownOutput))
    assert len(client.calls) == 1
    assert [(f.stage, f.error) for f in outcome.failures] == [
        ("results", "build_results: KeyError: 'probabilities'")
    ] * ITEMS


async def test_an_answer_without_rows_is_asked_for_again_for_few_items() -> None:
    outcome, client = await asked(of_kind("opaque", UnknownOutput))
    assert len(client.calls) == 4
    assert {f.error for f in outcome.failures} == {"build_results: KeyError: 'probabilities'"}
    assert outcome.rows == []


WRONG: dict[str, Callable[[list[Result]], list[Result]]] = {
    "one": lambda results: results[:1],
    "two": lambda results: results[:1] * 2,
    "none": lambda results: [],
    "all but the last": lambda results: results[:-1],
    "half": lambda results: results[: len(results) // 2],
    "at most seven": lambda results: results[:7],
    "one more": lambda results: [*results, *results[:1]],
    "each twice": lambda results: results * 2,
    "25, whatever comes": lambda results: (results * 25)[:25],
}


@pytest.mark.parametrize("kind", ["list", "mapping", "v2", "opaque"])
@pytest.mark.parametrize(
    ("wrong", "items"),
    [
        (wrong, items)
        for wrong, change in WRONG.items()
        for items in (2, 3, 8, 50, 64)
        if len(change([Result(None)] * items)) != items
    ],
)
async def test_a_wrong_number_of_results_fails_as_what_it_is(
    kind: str, wrong: str, items: int
) -> None:
    class Wrong(Reading):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            return WRONG[wrong](super().build_results(window, response))

    outcome, client = await asked(of_kind(kind, Wrong), range(items))
    assert len(client.calls) == 1
    assert outcome.rows == []
    assert len(outcome.failures) == items
    assert outcome.failures[0].error.startswith("build_results: returned ")


@pytest.mark.parametrize("results_per", ["window", "any"])
async def test_results_of_whole_windows_cost_one_call(results_per: Any) -> None:
    class Whole(UnknownOutput):
        pass

    Whole.results_per = results_per
    outcome, client = await asked(Whole)
    assert len(client.calls) == 1
    assert [(f.first, f.last) for f in outcome.failures] == [(0, ITEMS - 1)]


async def test_a_request_that_cannot_be_built_costs_no_call() -> None:
    class Unbuilt(Reading):
        def build_request(self, window: Window[int]) -> Any:
            raise AttributeError("features")

    outcome, client = await asked(Unbuilt)
    assert client.calls == []
    assert len(outcome.failures) == ITEMS
    assert {f.error for f in outcome.failures} == {"build_request: AttributeError: features"}


async def test_a_request_that_can_be_built_of_few_items_is_built_of_as_many_as_it_can() -> None:
    class Small(Reading):
        def build_request(self, window: Window[int]) -> Any:
            if len(window) > 16:
                raise ValueError("the model takes 16")
            return list(window)

    outcome, client = await asked(Small)
    assert [len(call) for call in client.calls] == [12, 13, 12, 13]
    assert len(outcome.rows) == ITEMS


# --- one item ---


class BreaksOnBad(Reading):
    def judge(self, number: int, answer: int) -> Result:
        if number == BAD:
            raise ZeroDivisionError("of the bad one")
        return Result(answer)


class LeavesOutBad(Reading):
    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        found = super().build_results(window, response)
        return [result for n, result in zip(window, found, strict=True) if n != BAD]


class RefusesBad(Reading):
    def judge(self, number: int, answer: int) -> Result:
        if number == BAD:
            raise InferenceRejectedError("the answer says that the row is bad")
        return Result(answer)


@pytest.mark.parametrize("place", [0, 24, 49])
@pytest.mark.parametrize("pipeline", [BreaksOnBad, LeavesOutBad, RefusesBad])
@pytest.mark.parametrize("kind", CUT)
async def test_an_item_whose_result_cannot_be_built_costs_its_result_and_one_call_more_at_most(
    kind: str, pipeline: type[Reading], place: int
) -> None:
    numbers = [BAD if n == place else n for n in range(ITEMS)]
    outcome, client = await asked(of_kind(kind, pipeline), numbers)
    assert {row.ordinal: from_json(row.data) for row in outcome.rows} == {
        n: 2 * n for n in range(ITEMS) if n != place
    }
    assert [(f.first, f.last) for f in outcome.failures] == [(place, place)]
    is_kept = kind not in ("tuple", "mapping", "nested")
    assert len(client.calls) == (1 if is_kept else 2)


@pytest.mark.parametrize("place", [0, 24, 49])
async def test_an_item_is_found_where_answers_have_no_rows(place: int) -> None:
    numbers = [BAD if n == place else n for n in range(ITEMS)]
    outcome, client = await asked(of_kind("opaque", BreaksOnBad), numbers)
    assert [row.ordinal for row in sorted(outcome.rows, key=lambda row: row.ordinal)] == [
        n for n in range(ITEMS) if n != place
    ]
    assert [(f.first, f.last) for f in outcome.failures] == [(place, place)]
    assert len(client.calls) <= 16


async def test_an_item_of_which_no_request_can_be_built_costs_no_call_more() -> None:
    class Picky(Reading):
        def build_request(self, window: Window[int]) -> Any:
            if BAD in window:
                raise ValueError("bad one")
            return list(window)

    numbers = [BAD if n in (7, 30) else n for n in range(ITEMS)]
    outcome, client = await asked(Picky, numbers)
    assert client.calls == [[n for n in numbers if n != BAD]]
    assert len(set(client.keys)) == 1
    assert [f.first for f in outcome.failures] == [7, 30]
    assert {row.ordinal: from_json(row.data) for row in outcome.rows} == {
        n: 2 * n for n in range(ITEMS) if n not in (7, 30)
    }


async def test_parts_without_an_item_have_keys_of_their_own() -> None:
    class Picky(Reading):
        def build_request(self, window: Window[int]) -> Any:
            if BAD in window:
                raise ValueError("bad one")
            return list(window)

    _, first = await asked(Picky, [1, 2, BAD, 4])
    _, other = await asked(Picky, [1, BAD, 3, 4])
    assert first.keys != other.keys
    _, large = await asked(Picky, [n if n != 500 else BAD for n in range(1000)])
    assert len(large.keys[0]) < 60


# --- what looks like rows and is none ---


@pytest.mark.parametrize("items", [2, 3])
async def test_names_of_classes_as_many_as_items_are_not_taken_for_rows(items: int) -> None:
    """The answer has a list of classes, by chance as long as the window."""
    classes = ["a", "b", "c"][:items]

    class Classes(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            best = [max(range(items), key=row.__getitem__) for row in response["scores"]]
            if BAD in window:
                raise ValueError("bad one")
            return [Result(response["classes"][place]) for place in best]

    def answer(_: int, request: list[int]) -> Any:
        scores = [[float(n == place) for place in range(items)] for n in request]
        return {"classes": classes, "scores": scores}

    numbers = [BAD, *range(1, items)]
    outcome, _ = await inferrer(Doubling(answer), Classes).search(window(numbers), sample=True)
    assert {row.ordinal: from_json(row.data) for row in outcome.rows} == {
        n: classes[n] for n in range(1, items)
    }
    assert [f.first for f in outcome.failures] == [0]


async def test_columns_as_many_as_items_are_not_taken_for_rows() -> None:
    class Columns(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            first, second = response
            return [Result(100 // (a + b)) for a, b in zip(first, second, strict=True)]

    def answer(_: int, request: list[int]) -> Any:
        return [list(request), list(request)]

    outcome, _ = await inferrer(Doubling(answer), Columns).search(window([0, 5]), sample=True)
    assert [(row.ordinal, row.data) for row in outcome.rows] == [(1, b"10")]
    assert [f.first for f in outcome.failures] == [0]


async def test_an_answer_that_was_changed_by_the_hook_is_asked_for_again() -> None:
    class Popping(Numbers):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            found = response.pop("y")
            return [Result(100 // y) for y in found]

    def answer(_: int, request: list[int]) -> Any:
        return {"y": [2 * n for n in request], "z": list(request)}

    outcome, _ = await inferrer(Doubling(answer), Popping).search(window([5, 0, 1, 2]))
    assert sorted(row.ordinal for row in outcome.rows) == [0, 2, 3]
    assert [f.first for f in outcome.failures] == [1]
