"""What the results of a window are called."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest

from sinfer import (
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    StaticTaskManager,
    Window,
    WindowResults,
)
from sinfer.store.work.claim import Claim
from sinfer.types.result import ResultRow
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow, WindowRecord
from sinfer.windows.reprocessing import Reprocessing
from sinfer.worker.attempts import Attempt
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.sink_step import name_results
from tests.support.task_settings import task_of

DONE = {"stream": "S", "durable": "d", "ack": "done"}
COUNT = {"type": "count", "count": 10}
UPDATED = {
    "type": "tumbling", "size": "1s", "time": "event", "late": "update", "allowed_lateness": "1m",
}  # fmt: skip
SLIDING = {"type": "sliding", "size": "2s", "slide": "1s"}


class Items(InferPipeline[InferTaskConfig, bytes]):
    def preprocess(self, message: Message) -> bytes:
        return message.data

    def build_request(self, window: Window[bytes]) -> Any:
        return []

    def build_results(self, window: Window[bytes], response: Any) -> list[Result]:
        return []


class Windows(Items):
    results_per: ClassVar[Literal["item", "window", "any"]] = "window"


async def named(
    pipeline: type[Items],
    *places: int,
    source: dict[str, Any],
    window: dict[str, Any] = COUNT,
    again: Reprocessing | None = None,
    incarnation: str = "inc",
    product_name: str = "p",
    repeats_to: int = 0,
    attempt: int = 1,
) -> WindowResults:
    """Results at some places of a window of the messages 20, 21, ..."""
    config = task_of(source=source, window=window)
    product = Product(product_name, tasks=StaticTaskManager([config]), pipeline=pipeline)
    ready = ReadyTask(None, product, config)
    record = WindowRecord(
        "k", 1000, 3000, 20, 29, count=10, reprocessing=again, incarnation=incarnation,
        repeats_to=repeats_to,
    )  # fmt: skip
    closed = ClosedWindow("t/in.a#7/k/1000/0" if again is None else "x~run1", record, "time")
    claim = Claim(closed, token=1, attempt=attempt)
    messages = [Message(b"", "in.a", None, seq, seq) for seq in range(20, 30)]
    rows = [ResultRow(place, b"1") for place in places]
    try:
        scope = Scope("p", "t", "in.a")
        tried = Attempt(
            claim, messages, is_last=False, number=attempt, may_have_been_tried=attempt > 1
        )
        return name_results(ready, scope, tried, rows)
    finally:
        await ready.aclose()


def keys(results: WindowResults) -> list[str]:
    return [results.idempotency_key(row) for row in results]


async def test_with_ack_done_a_result_is_called_by_its_message() -> None:
    results = await named(Items, 0, 3, source=DONE)
    assert keys(results) == ["p~inc/t/in.a/20", "p~inc/t/in.a/23"]
    assert results.window_id == "t/in.a#7/k/1000/0"


async def test_a_message_in_several_windows_has_a_name_in_each() -> None:
    results = await named(Items, 0, 3, source=DONE, window=SLIDING)
    assert keys(results) == ["p~inc/t/in.a/k/1000-3000/20", "p~inc/t/in.a/k/1000-3000/23"]


@pytest.mark.parametrize(
    ("pipeline", "source", "window"),
    [(Items, {"stream": "S"}, COUNT), (Windows, DONE, COUNT), (Items, DONE, UPDATED)],
    ids=["ack stored", "a result of the whole window", "a window that fires again"],
)
async def test_elsewhere_it_is_called_by_its_place_in_the_window(
    pipeline: type[Items], source: dict[str, Any], window: dict[str, Any]
) -> None:
    results = await named(pipeline, 0, source=source, window=window)
    assert keys(results) == ["p~inc/t/in.a#7/k/1000/0/0"]
    assert results.base_id == "p~inc/t/in.a#7/k/1000"
    assert results.window_id == "t/in.a#7/k/1000/0"


@pytest.mark.parametrize("source", [{"stream": "S"}, DONE], ids=["ack stored", "ack done"])
async def test_a_result_comes_with_its_message_where_it_is_of_one(source: dict[str, Any]) -> None:
    results = await named(Items, 0, 3, source=source)
    assert [results.messages[row.ordinal].stream_seq for row in results] == [20, 23]
    again = Reprocessing("redrive", "t/in.a/k/1000/0", ordinals=[4, 9])
    results = await named(Items, 1, source=source, again=again)
    assert [results.messages[row.ordinal].stream_seq for row in results] == [21]
    assert (await named(Windows, 0, source=source)).messages == {}


@pytest.mark.parametrize("source", [{"stream": "S"}, DONE], ids=["ack stored", "ack done"])
async def test_a_message_that_is_processed_again_keeps_its_name(source: dict[str, Any]) -> None:
    again = Reprocessing("redrive", "t/in.a/k/1000/0", ordinals=[4, 9])
    results = await named(Items, 0, source=source, again=again)
    known = "p~inc/t/in.a/20" if source is DONE else "p~inc/t/in.a/k/1000/0/4"
    assert keys(results) == [known]
    assert results.is_again
    assert results.may_be_there


@pytest.mark.parametrize("source", [{"stream": "S"}, DONE], ids=["ack stored", "ack done"])
async def test_a_window_that_an_earlier_version_opened_keeps_its_names(
    source: dict[str, Any],
) -> None:
    results = await named(Items, 0, source=source, incarnation="")
    known = "t/in.a/20" if source is DONE else "t/in.a#7/k/1000/0/0"
    assert keys(results) == keys(results.for_sink("a")) == [known]
    assert results.base_id == known.rpartition("/")[0].removesuffix("/0")


async def test_no_two_products_incarnations_or_sinks_share_a_key() -> None:
    found = [
        key
        for product in ("p", "q")
        for incarnation in ("inc", "inc.1", "inc.11")
        for source in ({"stream": "S"}, DONE)
        for results in [
            await named(Items, 0, 1, source=source, product_name=product, incarnation=incarnation)
        ]
        for sink in ("a", "A", "a@b", "a/1", "#fallback", "fallback", None)
        for key in keys(results.for_sink(sink))
    ]
    assert len(set(found)) == len(found) == 2 * 3 * 2 * 7 * 2


async def test_a_rerun_has_the_keys_of_what_it_replaces_and_is_another_write() -> None:
    first = (await named(Items, 0, source={"stream": "S"})).for_sink("a")
    again = Reprocessing("rerun", first.window_id)
    rerun = (await named(Items, 0, source={"stream": "S"}, again=again)).for_sink("a")
    assert keys(rerun) == keys(first)
    assert (first.copy_suffix, rerun.copy_suffix) == ("@a", "@a~run1")
    assert not rerun.may_be_there


@pytest.mark.parametrize(
    ("source", "repeats_to", "attempt", "expected"),
    [
        (DONE, 19, 1, False),
        (DONE, 20, 1, True),
        ({"stream": "S"}, 20, 1, False),
        (DONE, 0, 2, True),
    ],
    ids=["read once", "read again", "of a window cut again", "tried before"],
)
async def test_results_may_be_there_where_they_may_have_been_written_before(
    source: dict[str, Any], repeats_to: int, attempt: int, expected: bool
) -> None:
    results = await named(Items, 0, source=source, repeats_to=repeats_to, attempt=attempt)
    assert results.may_be_there is expected
