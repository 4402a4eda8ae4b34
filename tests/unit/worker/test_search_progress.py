"""What is stored of a search is read as it was, and takes little room."""

from __future__ import annotations

import pytest

from sinfer.types.result import ResultRow
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.search_progress import SearchProgress

PARTS: list[list[list[int]]] = [
    [],
    [[0]],
    [[3, 4, 5], [6, 7]],
    [[1, 2, 5, 9], [10], [4]],
    [[5, 4, 3]],
]


@pytest.mark.parametrize("todo", PARTS)
def test_what_is_left_and_what_was_found_are_read_again(todo: list[list[int]]) -> None:
    progress = SearchProgress()
    stored: dict[str, bytes] = {}
    progress.begin("7@0")
    progress.reason = "422"
    first = Outcome([ResultRow(20, b"1")], [Failure(21, 21, "inference", "422")], filtered=[30])
    second = Outcome([ResultRow(19, b"2")], [], [Failure(22, 22, "results", "later")], "m:1")
    for step in (first, second):
        stored |= progress.step(step, todo)
    read = SearchProgress.read(stored)
    assert read.todo == todo
    assert read.reason == "422"
    assert read.outcome == Outcome(
        [ResultRow(19, b"2"), ResultRow(20, b"1")],
        first.failures,
        second.retries,
        "m:1",
        filtered=[30],
    )


def test_what_was_forgotten_or_cannot_be_read_is_nothing() -> None:
    progress = SearchProgress()
    stored: dict[str, bytes] = {}
    progress.begin("7@0")
    stored |= progress.step(Outcome([ResultRow(1, b"1")]), [[2]])
    stored |= progress.forget()
    assert SearchProgress.read(stored).todo is None
    assert SearchProgress.read(stored).outcome == Outcome()
    assert SearchProgress.read({"": b"\xc1"}).todo is None
    progress.begin("8@0")
    state = progress.step(Outcome(), [[2]])
    state.pop("8@0:0")
    assert SearchProgress.read(stored | state).todo is None


def test_a_large_window_takes_little_room_for_what_is_left() -> None:
    progress = SearchProgress()
    progress.begin("7@0")
    fields = progress.step(Outcome(), [list(range(0, 5000)), list(range(5001, 100_000))])
    assert sum(map(len, fields.values())) < 100
