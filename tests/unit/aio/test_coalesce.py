"""Small calls become one, and each caller gets what is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sinfer.aio.coalesce import Coalescer


class Squares:
    """Squares numbers in batches; waits for ``go`` before each answer."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.called = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.called.set()
        await self.go.wait()
        if 13 in numbers:
            raise ValueError("thirteen")
        return [number**2 for number in numbers]


async def test_what_is_asked_during_a_call_goes_together_with_the_next() -> None:
    squares = Squares()
    square = Coalescer(squares)
    first = asyncio.create_task(square(1))
    await squares.called.wait()
    others = [asyncio.create_task(square(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    squares.go.set()
    assert await asyncio.gather(first, *others) == [1, 4, 9, 16]
    assert squares.batches == [[1], [2, 3, 4]]


async def test_an_error_reaches_all_of_its_batch_and_none_of_the_next() -> None:
    squares = Squares()
    squares.go.set()
    square = Coalescer(squares)
    results = await asyncio.gather(square(13), square(2), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, ValueError]
    assert await square(3) == 9


async def test_a_caller_that_gives_up_takes_nothing_from_the_others() -> None:
    squares = Squares()
    square = Coalescer(squares)
    impatient, patient = asyncio.create_task(square(2)), asyncio.create_task(square(3))
    await squares.called.wait()
    impatient.cancel()
    squares.go.set()
    assert await patient == 9
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_call_that_returns_too_few_results_leaves_nobody_waiting() -> None:
    async def forgetful(numbers: Sequence[int]) -> list[int]:
        return []

    with pytest.raises(ValueError, match="zip"):
        await asyncio.wait_for(Coalescer(forgetful)(1), timeout=5)
