"""A task under test behaves as in production, with time and the model in the hands of the test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sinfer import ConfigError, InferPipeline, InferTaskConfig, Message, Product, Result, Window
from sinfer.errors import (
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceUnavailableError,
)
from sinfer.products.managers import StaticTaskManager
from sinfer.testing import START, FakeModel, MakeTester, TaskTester

pytest_plugins = ["sinfer.testing"]


class Timed(InferPipeline[InferTaskConfig, dict[str, Any]]):
    """Items say their key and time; the answer is a list with a value for each."""

    def preprocess(self, message: Message) -> dict[str, Any] | None:
        item: dict[str, Any] = {"key": "k", **json.loads(message.data)}
        return None if item.get("skip") else item

    def key(self, item: dict[str, Any]) -> str:
        key: str = item["key"]
        return key

    def event_time(self, item: dict[str, Any]) -> float | None:
        return item.get("time")

    def build_request(self, window: Window[dict[str, Any]]) -> list[int]:
        return [item["n"] for item in window]

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        return [Result({"n": n, "subject": m.subject}) for n, m in zip(response, window.messages)]  # noqa: B905


def product(**changes: Any) -> Product:
    settings = {
        "id": "t",
        "source": {"stream": "S", "subject": "s.in"},
        "window": {"type": "count", "count": 2},
        "inference": {"type": "json", "url": "http://127.0.0.1:1", "retry_max": "2s"},
        "sinks": [{"type": "jetstream", "subject": "never"}],
        **changes,
    }
    return Product("timed", tasks=StaticTaskManager([settings]), pipeline=Timed)


def echo(request: Any) -> Any:
    return request


def event(**changes: Any) -> dict[str, Any]:
    return {"type": "tumbling", "size": "10s", "time": "event", **changes}


def ids(task: TaskTester) -> list[list[int]]:
    """The items of the windows that closed."""
    return [[item["n"] for item in window.window or ()] for window in task.windows]


def numbers(*ns: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"n": n, **fields} for n in ns]


def test_messages_have_subject_sequence_and_time(task_tester: MakeTester) -> None:
    task = task_tester(product(), model=echo)
    task.feed({"n": 1}, at=START + 5)
    task.feed({"n": 2}, subject="s.other", headers={"H": "1"})
    [window] = task.windows
    assert window.window is not None
    first, second = window.window.messages
    assert (first.subject, first.stream_seq, first.timestamp) == ("s.in", 1, START + 5)
    assert (second.subject, second.stream_seq, second.headers) == ("s.other", 2, {"H": "1"})


def test_windows_of_processing_time_close_by_the_clock(task_tester: MakeTester) -> None:
    task = task_tester(product(window={"type": "tumbling", "size": "10s"}), model=echo)
    task.feed(*numbers(1, 2))
    task.advance("9.999s")
    assert not task.windows
    task.advance(0.001)
    task.feed(*numbers(3))
    task.advance("10s")
    assert ids(task) == [[1, 2], [3]]


def test_windows_of_event_time_close_by_the_watermark_or_when_idle(
    task_tester: MakeTester,
) -> None:
    window = event(max_out_of_orderness="2s", idle="30s")
    task = task_tester(product(window=window), model=echo)
    task.feed({"n": 1, "time": START + 1}, {"n": 2, "time": START + 11.9})
    assert not task.windows
    task.feed({"n": 3, "time": START + 12})
    assert ids(task) == [[1]]
    task.feed({"n": 4, "time": START + 2})
    assert task.counts["late"] == 1
    task.advance("30s")
    assert ids(task) == [[1], [2, 3]]


def test_late_items_make_a_window_fire_again(task_tester: MakeTester) -> None:
    window = event(late="update", allowed_lateness="1m")
    task = task_tester(product(window=window), model=echo)
    for n, at in ((1, 1), (2, 11), (3, 2)):
        task.feed({"n": n, "time": START + at})
    assert ids(task) == [[1], [1, 3]]
    assert [window.window.revision for window in task.windows if window.window] == [0, 1]


def test_sliding_windows_share_items_and_sessions_end_with_a_gap(
    task_tester: MakeTester,
) -> None:
    sliding = {"type": "sliding", "size": "20s", "slide": "10s"}
    task = task_tester(product(window=sliding), model=echo)
    task.feed(*numbers(1))
    task.advance("10s")
    task.feed(*numbers(2))
    task.advance("30s")
    assert ids(task) == [[1], [1, 2], [2]]
    session = {"type": "session", "gap": "5s"}
    task = task_tester(product(window=session), model=echo)
    task.feed(*numbers(1, key="a"), *numbers(2, key="b"))
    task.advance("4s")
    task.feed(*numbers(3, key="a"))
    task.advance("5s")
    assert sorted(ids(task)) == [[1, 3], [2]]


def test_every_message_is_accounted_for(task_tester: MakeTester) -> None:
    task = task_tester(product(window={"type": "sliding", "size": "20s", "slide": "10s"}))
    model = FakeModel(echo)
    task = task_tester(
        product(window={"type": "sliding", "size": "20s", "slide": "10s"}), model=model
    )
    task.feed(*numbers(1, 2), {"n": 3, "skip": True}, "broken")
    task.advance("1m")
    assert {k: task.counts[k] for k in ("fetched", "filtered", "sunk", "dead", "late")} == {
        "fetched": 4, "filtered": 1, "sunk": 2, "dead": 1, "late": 0,
    }  # fmt: skip


def test_an_outage_of_the_model_is_tried_again_later(task_tester: MakeTester) -> None:
    model = FakeModel(echo)
    task = task_tester(product(), model=model)
    model.fail(InferenceUnavailableError("busy"), InferenceUnavailableError("busy"))
    task.feed(*numbers(1, 2))
    [window] = task.windows
    assert not window.is_done
    assert "busy" in window.waits_for
    task.advance("10s")
    assert window.is_done
    assert window.attempts == 3
    assert [result["n"] for result in task.results] == [1, 2]


def test_a_bad_item_harms_only_itself(task_tester: MakeTester) -> None:
    def refuse_7(request: list[int]) -> list[int]:
        if 7 in request:
            raise InferenceRejectedError("7 is bad")
        return request

    task = task_tester(product(window={"type": "count", "count": 8}), model=refuse_7)
    task.feed(*numbers(*range(1, 9)))
    assert [result["n"] for result in task.results] == [1, 2, 3, 4, 5, 6, 8]
    [letter] = task.dead_letters
    assert (letter.message.stream_seq, letter.stage) == (7, "inference")


def test_what_can_never_succeed_pauses_the_task(task_tester: MakeTester) -> None:
    model = FakeModel(echo)
    model.fail(InferenceMisconfiguredError("no such model"))
    task = task_tester(product(), model=model)
    task.feed(*numbers(1, 2), *numbers(3, 4))
    assert task.paused == "no such model"
    assert len(model.requests) == 1


def test_errors_of_hooks_are_dead_letters_with_their_stage(task_tester: MakeTester) -> None:
    task = task_tester(product(), model=lambda request: None)
    task.feed(*numbers(1, 2))
    assert {letter.stage for letter in task.dead_letters} == {"results"}
    # In production it takes a few such windows; a test should not overlook the first.
    assert task.paused.startswith("build_results refuses all 2 items of a window: ")


def test_partitions_have_windows_of_their_own(task_tester: MakeTester) -> None:
    source = {"stream": "S", "partitions": ["s.a.*", "s.b"]}
    task = task_tester(product(source=source), model=echo)
    task.feed(*numbers(1), subject="s.a.x")
    task.feed(*numbers(2), subject="s.b")
    task.feed(*numbers(3), subject="s.a.y")
    assert ids(task) == [[1, 3]]
    with pytest.raises(ConfigError, match=r"s\.c"):
        task.feed(*numbers(4), subject="s.c")


def test_settings_of_the_test_override_those_of_the_product(task_tester: MakeTester) -> None:
    task = task_tester(product(), {"window": {"type": "count", "count": 3}}, model=echo)
    task.feed(*numbers(1, 2, 3))
    assert ids(task) == [[1, 2, 3]]
    assert task.config.id == "t"


@pytest.mark.parametrize(
    ("task", "text"),
    [("nope", "no task 'nope'"), ({"window": {"type": "count", "count": 0}}, r"window\.count")],
)
def test_a_wrong_task_is_told(task: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        TaskTester(product(), task, model=echo)


def test_a_broken_task_of_the_product_is_told_by_field() -> None:
    broken = product(window={"type": "count", "count": "many"})
    with pytest.raises(ConfigError, match=r"window\.count"):
        TaskTester(broken, model=echo)


def test_a_model_that_refuses_all_of_a_window_stops_the_task_there(task_tester: MakeTester) -> None:
    model = FakeModel(echo)
    model.fail(*[InferenceRejectedError("no such input")] * 1000)
    task = task_tester(product(window={"type": "count", "count": 20}), model=model)
    task.feed(*numbers(*range(60)))
    assert task.paused == "the model refuses all 20 items of a window: no such input"
    assert len(model.requests) <= 12
    assert task.dead_letters == []  # only some items were asked about
