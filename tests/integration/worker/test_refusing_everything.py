"""Models, products and sinks that refuse whatever comes: the task pauses after a few windows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sinfer import Result, Window
from sinfer.embedded.servers import RedisServer
from sinfer.errors import (
    InferenceRejectedError,
    InferenceServerError,
    InvalidResponseError,
    SinkRejectedError,
)
from sinfer.operations.redrive import Redrive
from sinfer.sinks import HttpSink
from sinfer.store.boards.pauses import Pause, PauseBoard
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import LetterFilter
from sinfer.worker import refusal_judge
from sinfer.worker.process import WindowProcessor
from tests.integration.sinks.receiver import Receiver
from tests.integration.worker.bench import Bench, Choosy, Judging, Record
from tests.support.until import until

pytestmark = pytest.mark.integration


class Board(Bench):
    """A bench whose workers share what they see refused, and whose pause is the real one."""

    def watching(self, processor: WindowProcessor) -> WindowProcessor:
        ready = processor._ready
        refusals = RefusalBoard(self.store, self.scope.product, self.scope.task)
        return WindowProcessor(ready, self.claims, self._pause, refusals)

    async def _pause(self, reason: str) -> None:
        self.paused = reason
        pause = Pause(reason, 0, "processing")
        await PauseBoard(self.store).pause(self.scope.product, self.scope.task, pause)

    async def resume(self) -> None:
        self.paused = ""
        await PauseBoard(self.store).resume(self.scope.product, self.scope.task)

    async def run(self, *processors: WindowProcessor) -> None:
        """Try windows, by several workers in turn, until none is left or the task is paused."""

        async def is_over() -> bool:
            for processor in processors:
                if self.paused or not await self.try_once(processor):
                    return True
            return False

        await until(is_over)

    async def dead_data(self) -> list[int]:
        return sorted(int(letter.message.data) for letter in await self.dead())


@pytest.fixture
async def board(
    redis_server: RedisServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Board]:
    monkeypatch.setattr(refusal_judge, "_SEEN_MS", 300)
    store = Store(redis_server.url)
    bench = Board(store, unique)
    Judging.patience.clear()
    yield bench
    await bench.aclose()
    await store.aclose()


def windows(count: int, size: int) -> list[list[int]]:
    return [list(range(1000 + n * size, 1000 + (n + 1) * size)) for n in range(count)]


class Broken(Judging):
    """Its ``build_results`` knows a column that the model has no more."""

    is_broken = True

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        if self.is_broken:
            raise KeyError(f"score of {window[0]}")
        return super().build_results(window, response)


@pytest.mark.parametrize("size", [5, 64])
@pytest.mark.parametrize("kind", ["400", "500", "unreadable", "build_results"])
async def test_a_model_that_refuses_everything_pauses_the_task_and_loses_little(
    board: Board, kind: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers. Once it is put right and resumed all results come, redriven ones as well."""
    errors = {
        "400": InferenceRejectedError("400 Bad Request: no such input"),
        "500": InferenceServerError("500 Internal Server Error"),
        "unreadable": InvalidResponseError("200 OK: no JSON"),
    }
    monkeypatch.setattr(Broken, "is_broken", kind == "build_results")
    refuse: list[bool] = [kind in errors]
    infer = board.model.infer

    async def refusing(request: Any, *, idempotency_key: str = "") -> Any:
        if refuse[0]:
            board.model.calls.append((request, idempotency_key))
            raise errors[kind]
        return await infer(request, idempotency_key=idempotency_key)

    monkeypatch.setattr(board.model, "infer", refusing)
    sink = Record()
    workers = [board.watching(board.processor(Broken, attempts=2, sink=sink)) for _ in range(2)]
    await board.feed(*windows(20, size))
    await board.run(*workers)
    who = "build_results" if kind == "build_results" else "the model"
    assert board.paused.startswith(f"{who} refuses everything, ")
    letters = await board.dead_data()
    assert len(letters) <= 2 * size
    calls = len(board.model.calls)
    # Of 64 items in each of 20 windows: 2,540 calls without a sample.
    assert calls <= 1500
    trouble = await board.trouble()
    [told] = [line for line in trouble if "PAUSED" in line]
    assert any("model is away" in line for line in trouble) is (kind != "build_results")
    if letters:
        assert f"dead letters until then: in.{{odd}} 1-{size} ({size})" in told
        assert "sinfer dlq redrive" in told
    else:
        assert "no message was given up" in told
    refuse[0] = Broken.is_broken = False
    await board.resume()
    redrive = Redrive(board.store, board.scope, Judging(board.config()))
    await redrive.run(LetterFilter())
    await board.settle(workers[0])
    assert sum(sink.written.values()) == 20 * size
    assert await board.dead() == []


async def test_one_bad_window_after_the_other_is_no_outage_while_others_are_taken(
    board: Board,
) -> None:
    """Every other window is all bad, from one broken producer say."""
    sink = Record()

    class Picky(Judging):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            if any(n % 2 for n in window):
                raise ValueError(f"item {window[0]} is odd")
            return super().build_results(window, response)

    numbers = [[2 * n + 100 + w % 2 for n in range(20)] for w in range(16)]
    await board.feed(*numbers)
    await board.run(board.watching(board.processor(Picky, sink=sink)))
    assert not board.paused
    assert sum(sink.written.values()) == 8 * 20
    assert len(await board.dead()) == 8 * 20


async def test_a_few_single_bad_messages_in_a_row_are_no_outage(board: Board) -> None:
    board.model.errors.extend([InferenceRejectedError("no")] * 9)
    await board.feed(*windows(10, 1))
    sink = Record()
    await board.run(board.watching(board.processor(sink=sink)))
    assert not board.paused
    assert len(await board.dead()) == 9
    assert sum(sink.written.values()) == 1


async def test_refusals_long_ago_count_no_more_once_something_was_taken(board: Board) -> None:
    sink = Record()
    worker = board.watching(board.processor(sink=sink))
    for n in range(4):
        board.model.errors.extend([InferenceRejectedError("no")] * 9)  # a window of 5, halved
        await board.feed([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], seq=1 + 10 * n)
        await board.run(worker)
    assert not board.paused
    assert len(await board.dead()) == 20
    assert sum(sink.written.values()) == 20


def by_ordinals(results: Any) -> SinkRejectedError:
    return SinkRejectedError("constraint", ordinals=[row.ordinal for row in results])


@pytest.mark.parametrize("refusal", [lambda _: SinkRejectedError("no permission"), by_ordinals])
async def test_a_sink_that_refuses_everything_pauses_the_task_and_others_have_it_all(
    board: Board, refusal: Callable[[Any], SinkRejectedError]
) -> None:
    class Refusing(Record):
        is_refusing = True

        async def write(self, results: Any) -> None:
            if self.is_refusing:
                raise refusal(results)
            await super().write(results)

    refusing, well = Refusing(), Record()
    worker = board.watching(board.processor(refusing=refusing, well=well))
    await board.feed(*windows(12, 5))
    await board.run(worker)
    assert board.paused.startswith("sink refusing refuses everything, ")
    assert len(await board.dead()) == 10
    refusing.is_refusing = False
    await board.resume()
    await board.settle(worker)
    assert sum(refusing.written.values()) == 50
    assert sum(well.written.values()) == 60
    assert set(well.written.values()) == {1}
    assert {len(window) for window in well.windows} == {5}


async def test_an_http_sink_that_refuses_everything_pauses_the_task(board: Board) -> None:
    with Receiver() as receiver:
        receiver.judge = lambda body: (400, b"no")
        sink = HttpSink(HttpSink.Config(url=receiver.url))
        worker = board.watching(board.processor(sink=sink))
        await board.feed(*windows(12, 5))
        await board.run(worker)
        assert "answered 400 no" in board.paused
        assert len(await board.dead()) == 10
        receiver.judge = lambda body: None
        await board.resume()
        await board.settle(worker)
        assert await board.counts() == {"fetched": 60, "sunk": 50, "dead": 10}


@pytest.mark.parametrize("status", [302, 401, 403, 404])
async def test_of_an_http_sink_that_lets_nobody_in_nothing_dies(board: Board, status: int) -> None:
    """It is unavailable, with the reason; however long that lasts, no attempt is used up."""
    with Receiver() as receiver:
        receiver.judge = lambda body: (status, b"no")
        sink, well = HttpSink(HttpSink.Config(url=receiver.url)), Record()
        worker = board.watching(board.processor(sink=sink, well=well, attempts=2))
        await board.feed(*windows(12, 5))
        for _ in range(10):
            await board.try_once(worker)
        assert board.paused == ""
        assert await board.dead() == []
        [told] = [line for line in await board.trouble() if "away" in line]
        assert f"answered {status} no; correct 'url' or 'headers' of the sink" in told
        receiver.judge = lambda body: None
        await board.settle(worker)
        assert (await board.counts())["sunk"] == 60
        assert sum(well.written.values()) == 60


async def test_where_a_fallback_takes_what_a_sink_refuses_nothing_pauses(board: Board) -> None:
    refusing, fallback = Choosy(*range(5)), Record()
    await board.feed(*windows(12, 5))
    await board.run(board.watching(board.processor(refusing=refusing, fallback=fallback)))
    assert not board.paused
    assert sum(fallback.written.values()) == 60


async def test_a_lone_window_that_is_refused_whole_comes_to_its_end(board: Board) -> None:
    board.model.errors.extend([InferenceRejectedError("no")] * 1000)
    await board.feed(list(range(1, 33)))
    await board.run(board.watching(board.processor(sink=Record(), attempts=2)))
    assert not board.paused
    assert len(await board.dead()) == 32
