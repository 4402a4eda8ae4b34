"""Windows that are taken in parts only are told of, with the setting that ends it."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer import Window
from sinfer.errors import InferenceRejectedError
from sinfer.worker.halving import HalvingWatch
from tests.unit.worker.test_model_step import Doubling, Numbers, inferrer, raising, window

TOO_LARGE = raising(
    InferenceRejectedError("413 Content Too Large"), when=lambda _, request: len(request) > 16
)


async def told(watch: HalvingWatch, items: int, instead: Any = TOO_LARGE, **settings: Any) -> str:
    asker = inferrer(Doubling(instead), **settings)
    search = asker.begin(window(range(items)), sample=True)
    await asker.go_on(search)
    return watch.look_at(search)


async def test_a_window_that_is_too_large_in_a_row_is_told_once_with_its_cost_and_the_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watch = HalvingWatch("p/t")
    texts = [await told(watch, 50) for _ in range(5)]
    text = (
        "the model refuses 50 items at once and takes them in parts, which costs 7 calls a window;"
        " set inference.max_batch: 13 (it says: 413 Content Too Large)"
    )
    assert texts == ["", text, "", "", ""]
    assert caplog.messages == [f"p/t: {text}"]


async def test_with_that_setting_nothing_is_told() -> None:
    watch = HalvingWatch("p/t")
    assert [await told(watch, 50, max_batch=13) for _ in range(3)] == [""] * 3


async def test_a_hiccup_now_and_then_and_a_bad_item_in_each_window_are_not_told() -> None:
    watch = HalvingWatch("p/t")
    for _ in range(3):
        assert await told(watch, 50) == ""
        assert await told(watch, 50, None) == ""
    bad = raising(InferenceRejectedError("422"), when=lambda _, request: 7 in request)
    for _ in range(3):
        assert await told(watch, 50, bad) == ""


async def test_bad_items_do_not_hide_that_the_windows_are_too_large() -> None:
    def instead(_: int, request: list[int]) -> None:
        if 7 in request or len(request) > 16:
            raise InferenceRejectedError("no")

    watch = HalvingWatch("p/t")
    texts = [await told(watch, 50, instead) for _ in range(2)]
    assert texts[1].startswith("the model refuses 25 items at once and takes them in parts,")
    assert "set inference.max_batch: 13 " in texts[1]


async def test_a_request_that_is_built_of_few_items_only_is_told_by_its_hook() -> None:
    class Small(Numbers):
        def build_request(self, window: Window[int]) -> Any:
            if len(window) > 16:
                raise ValueError("the model takes 16")
            return list(window)

    watch = HalvingWatch("p/t")
    asker = inferrer(Doubling(), Small)
    texts = []
    for _ in range(2):
        search = asker.begin(window(range(50)))
        await asker.go_on(search)
        texts.append(watch.look_at(search))
    assert texts[1].startswith("build_request refuses 50 items at once and takes them in parts,")
    assert "which costs 4 calls a window; set inference.max_batch: 13 " in texts[1]
