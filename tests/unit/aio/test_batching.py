"""Small calls become one, and each caller gets what is its own: a result, or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sinfer.aio.batching import Batcher


class Squares:
    """Squares numbers in batches; waits for ``go`` before each answer.

    Attributes:
        refused: what is answered with an error of its own.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.called = asyncio.Event()
        self.go = asyncio.Event()
        self.refused: dict[int, Exception] = {}

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        self.called.set()
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("thirteen")
        return [self.refused.get(number, number**2) for number in numbers]


async def begun(
    squares: Squares, square: Batcher[int, int], *numbers: int
) -> list[asyncio.Task[int]]:
    """Asks for numbers, of which the first is under way and the others wait."""
    tasks = [asyncio.create_task(square(numbers[0]))]
    await squares.called.wait()
    tasks += [asyncio.create_task(square(number)) for number in numbers[1:]]
    await asyncio.sleep(0)
    return tasks


async def test_what_is_asked_during_a_call_goes_together_with_the_next() -> None:
    squares = Squares()
    tasks = await begun(squares, Batcher(squares), 1, 2, 3, 4)
    squares.go.set()
    assert await asyncio.gather(*tasks) == [1, 4, 9, 16]
    assert squares.batches == [[1], [2, 3, 4]]


async def test_a_batch_has_a_largest_size() -> None:
    squares = Squares()
    tasks = await begun(squares, Batcher(squares, size=lambda n: n, max_size=7), 9, 3, 4, 8, 1)
    squares.go.set()
    await asyncio.gather(*tasks)
    assert squares.batches == [[9], [3, 4], [8], [1]]


async def test_an_error_of_one_argument_reaches_its_caller_alone() -> None:
    squares = Squares()
    squares.refused[2] = LookupError("no")
    tasks = await begun(squares, Batcher(squares), 1, 2, 3)
    squares.go.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [1, squares.refused[2], 9]


async def test_an_error_of_the_call_reaches_all_of_its_batch_and_none_of_the_next() -> None:
    squares = Squares()
    squares.go.set()
    square = Batcher(squares)
    results = await asyncio.gather(square(13), square(2), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert await square(3) == 9


async def test_a_caller_that_gives_up_takes_nothing_from_the_others() -> None:
    squares = Squares()
    under_way, waiting, patient = await begun(squares, Batcher(squares), 1, 2, 3)
    under_way.cancel()
    waiting.cancel()
    squares.go.set()
    assert await patient == 9
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert squares.batches[0] == [1]


async def test_a_call_that_returns_too_few_results_leaves_nobody_waiting() -> None:
    async def forgetful(numbers: Sequence[int]) -> list[int]:
        return []

    with pytest.raises(ValueError, match="zip"):
        await asyncio.wait_for(Batcher(forgetful)(1), timeout=5)


async def test_closing_waits_for_what_is_under_way_and_for_what_waits() -> None:
    squares = Squares()
    square = Batcher(squares)
    tasks = await begun(squares, square, 1, 2)
    closing = asyncio.create_task(square.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    squares.go.set()
    await closing
    assert [task.result() for task in tasks] == [1, 4]
