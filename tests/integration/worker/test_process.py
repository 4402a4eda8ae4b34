"""Windows through several tries on the real store: who gets what, how often, what is given up."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sinfer import (
    Message,
    Product,
    Result,
    Sink,
    StaticTaskManager,
    Window,
    WindowResults,
)
from sinfer.embedded.servers import RedisServer
from sinfer.errors import (
    ConfigError,
    InferenceUnavailableError,
    InvalidResponseError,
    SinkRejectedError,
    SinkUnavailableError,
)
from sinfer.operations.audit import audit
from sinfer.operations.locate import Finder
from sinfer.operations.metrics import SinferCollector
from sinfer.operations.redrive import Redrive
from sinfer.sinks import HttpSink
from sinfer.sinks.base import SinkConfig
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import LetterFilter
from sinfer.store.history.ledger import read_ledger
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim
from sinfer.types.result import Confirmed
from sinfer.windows.dead_letters import is_readable
from sinfer.windows.ids import escape
from sinfer.windows.plan import Entry
from sinfer.windows.planner_types import make_planner
from sinfer.worker import process as processing
from sinfer.worker.lease_keeper import LeaseKeeper
from sinfer.worker.process import WindowProcessor
from sinfer.worker.ready_task import ReadyTask
from tests.integration.sinks.receiver import Receiver
from tests.integration.worker.bench import Bench, Choosy, Freely, Judging, Model, Record, Stuck
from tests.support.accounts import read_account
from tests.support.until import until
from tests.support.window_reference import window_spec

pytestmark = pytest.mark.integration

_PATIENCE_S = 30.0


def expected(window: WindowResults, places: dict[int, int]) -> Counter[tuple[str, bytes]]:
    """One result at each place, of the number that is there."""
    return Counter((f"{window.window_id}/{p}", b"%d" % (2 * n)) for p, n in places.items())


# --- single items ---


async def test_only_items_marked_for_retry_are_asked_again_and_each_result_is_written_once(
    bench: Bench,
) -> None:
    one, two = Record(), Record()
    Judging.patience.update({3: 1, 5: 2})
    await bench.feed([1, 99, 3, -4, 5, 6])
    await bench.settle(bench.processor(one=one, two=two))
    assert bench.model.asked == [[1, 3, -4, 5, 6], [3, 5], [5]]
    for sink in (one, two):
        [window] = sink.windows  # nothing was written before all was known
        assert sink.written == expected(window, {0: 1, 2: 3, 4: 5, 5: 6})
        assert [row.ordinal for row in window] == [0, 2, 4, 5]
        assert window.attempt == 3
    [letter] = await bench.dead()
    assert (letter.message.data, letter.ordinal, letter.stage) == (b"-4", 3, "results")
    assert letter.error == "negative"
    assert await bench.counts() == {"fetched": 6, "sunk": 4, "dead": 1}


async def test_a_question_about_other_items_never_has_the_key_of_an_earlier_one(
    bench: Bench,
) -> None:
    Judging.patience.update({1: 1, 2: 2})
    await bench.feed([1, 2, 3, 4])
    await bench.settle(bench.processor(sink=Record()))
    keys = [key for _, key in bench.model.calls]
    assert bench.model.asked == [[1, 2, 3, 4], [1, 2], [2]]
    assert len(set(keys)) == 3


async def test_items_that_are_never_ready_are_given_up_and_the_others_written(
    bench: Bench,
) -> None:
    sink = Record()
    Judging.patience.update({3: 1000, 5: 1})
    await bench.feed([1, 2, 3, -4, 5])
    await bench.settle(bench.processor(sink=sink, attempts=4))
    assert bench.model.asked == [[1, 2, 3, -4, 5], [3, 5], [3], [3]]
    [window] = sink.windows
    assert sink.written == expected(window, {0: 1, 1: 2, 4: 5})
    assert [(x.message.data, x.ordinal, x.error, x.attempts) for x in await bench.dead()] == [
        (b"-4", 3, "negative", 4),
        (b"3", 2, "too early", 4),
    ]
    assert await bench.counts() == {"fetched": 5, "sunk": 3, "dead": 2}


@pytest.mark.parametrize("error", [InferenceUnavailableError("gone"), InvalidResponseError("?")])
async def test_results_that_are_there_are_written_when_the_open_items_get_no_answer(
    bench: Bench, error: Exception
) -> None:
    sink = Record()
    Judging.patience.update({3: 1})
    await bench.feed([1, 2, 3])
    bench.model.errors.extend([None, error, error])
    await bench.settle(bench.processor(sink=sink, attempts=3))
    [window] = sink.windows
    assert sink.written == expected(window, {0: 1, 1: 2})
    [letter] = await bench.dead()
    assert (letter.message.data, letter.stage) == (b"3", "inference")
    assert str(error) in letter.error


async def test_items_given_up_in_the_last_try_are_not_asked_about_while_a_sink_is_away(
    bench: Bench,
) -> None:
    sink = Record(*[SinkUnavailableError("away")] * 4)
    Judging.patience.update({3: 1000})
    await bench.feed([1, 3])
    await bench.settle(bench.processor(sink=sink, attempts=2))
    assert bench.model.asked == [[1, 3], [3]]
    assert sink.written == expected(sink.windows[0], {0: 1})
    assert [letter.message.data for letter in await bench.dead()] == [b"3"]


async def test_results_that_belong_to_no_item_are_retried_and_written_together(
    bench: Bench,
) -> None:
    sink = Record()
    Judging.patience.update({2: 1})
    await bench.feed([1, 2, 3])
    await bench.settle(bench.processor(Freely, sink=sink))
    assert bench.model.asked == [[1, 2, 3], [1, 2, 3]]
    assert sink.written == expected(sink.windows[0], {0: 1, 1: 2, 2: 3})


async def test_one_failed_result_among_those_of_a_window_gives_each_message_up_once(
    bench: Bench,
) -> None:
    sink = Record()
    await bench.feed([1, -2, -3])
    await bench.settle(bench.processor(Freely, sink=sink))
    assert not sink.windows
    assert [letter.message.data for letter in await bench.dead()] == [b"1", b"-2", b"-3"]


# --- sinks ---


async def test_a_sink_that_is_away_burns_no_attempt_and_keeps_no_other_sink_waiting(
    bench: Bench,
) -> None:
    lost, well = Record(*[SinkUnavailableError("connection refused")] * 20), Record()
    await bench.feed([1, 2], [3, 4], [5, 6])
    processor = bench.processor(lost=lost, well=well, attempts=2)
    assert await bench.try_once(processor) == 3
    assert len(well.windows) == 3
    [found] = await Finder(bench.store, bench.scope).find(1)
    assert found.state == "closed"
    assert found.sinks == ["well"]
    await bench.settle(processor)
    assert lost.tries > 20
    assert bench.model.asked == [[1, 2], [3, 4], [5, 6]]
    assert lost.written == well.written
    assert set(lost.written.values()) == {1}
    assert sum(lost.written.values()) == 6
    assert {window.attempt for window in lost.windows} == {1}
    assert await bench.dead() == []


async def test_a_receiver_that_says_for_how_long_is_not_asked_before_by_any_window(
    bench: Bench,
) -> None:
    """A day is asked for; an hour is granted."""
    well = Record()
    with Receiver() as receiver:
        receiver.answers.append((503, b"busy"))
        receiver.headers["Retry-After"] = "86400"
        busy = HttpSink(HttpSink.Config(url=receiver.url))
        await bench.feed([1, 2], [3, 4], [5, 6])
        before_ms = await bench.store.now_ms()
        assert await bench.try_once(bench.processor(busy=busy, well=well, attempts=2)) == 3
        after_ms = await bench.store.now_ms()
        assert len(receiver.posts) == 1
    assert len(well.windows) == 3
    ready = PartitionKeys(bench.scope).ready
    asked_ms = (before_ms + 3_590_000, after_ms + 3_610_000)
    assert await bench.store.redis.zcard(ready) == 3
    assert await bench.store.redis.zcount(ready, *asked_ms) == 3


async def test_a_sink_that_is_away_is_told_in_status_and_metrics_until_it_is_back(
    bench: Bench, redis_server: RedisServer
) -> None:
    lost = Record(*[SinkUnavailableError("connection refused")] * 5)
    await bench.feed([1, 2])
    processor = bench.processor(lost=lost, well=Record())
    await bench.try_once(processor)
    [told] = [line for line in await bench.trouble() if "away" in line]
    assert told.startswith("sink lost is away since ")
    assert told.endswith("windows wait: connection refused")
    labels = {"task": bench.scope.task, "what": "sink lost"}
    assert await metric(redis_server, "sinfer_away", labels) == 1.0
    await bench.settle(processor)
    assert not any("away" in line for line in await bench.trouble())
    assert await metric(redis_server, "sinfer_away", labels) is None
    assert not await bench.store.redis.exists(PartitionKeys(bench.scope).outages)


async def metric(server: RedisServer, name: str, labels: dict[str, str]) -> float | None:
    families = await asyncio.to_thread(
        lambda: list(SinferCollector(lambda: Store(server.url)).collect())
    )
    for sample in (sample for family in families for sample in family.samples):
        if sample.name == name and labels.items() <= sample.labels.items():
            return sample.value
    return None


async def test_an_outage_ends_for_status_when_the_task_has_the_sink_no_more(bench: Bench) -> None:
    await bench.feed([1, 2])
    gone = Record(*[SinkUnavailableError("away")] * 10)
    await bench.try_once(bench.processor(gone=gone))
    assert any("sink gone is away" in line for line in await bench.trouble())
    await bench.settle(bench.processor(other=Record()))
    assert not any("away" in line for line in await bench.trouble())


async def test_what_a_sink_refuses_for_good_waits_for_the_fallback_to_come_back(
    bench: Bench,
) -> None:
    refusing = Record(*[SinkRejectedError("constraint")] * 1000)
    fallback = Record(*[SinkUnavailableError("away")] * 5)
    await bench.feed([1, 2])
    processor = bench.processor(refusing=refusing, fallback=fallback, attempts=2)
    await bench.try_once(processor)
    assert any("fallback is away" in line for line in await bench.trouble())
    await bench.settle(processor)
    assert fallback.written == expected(fallback.windows[0], {0: 1, 1: 2})
    assert await bench.dead() == []


async def test_what_is_refused_for_good_without_a_fallback_is_dead_and_others_have_it(
    bench: Bench,
) -> None:
    refusing, well = Record(SinkRejectedError("constraint")), Record()
    await bench.feed([1, -2, 3])
    await bench.settle(bench.processor(refusing=refusing, well=well))
    assert refusing.tries == 1
    assert sum(well.written.values()) == 2
    assert [(x.message.data, x.stage) for x in await bench.dead()] == [
        (b"-2", "results"), (b"1", "sink"), (b"3", "sink"),
    ]  # fmt: skip
    assert "constraint" in (await bench.dead())[1].error


async def test_a_result_that_one_sink_refuses_is_one_dead_letter_and_no_sink_lacks_another(
    bench: Bench,
) -> None:
    choosy, well = Choosy(3), Record()
    await bench.feed(range(10))
    await bench.settle(bench.processor(choosy=choosy, well=well))
    assert sum(choosy.written.values()) == 9
    assert sum(well.written.values()) == 10
    [letter] = await bench.dead()
    assert (letter.message.data, letter.ordinal, letter.stage) == (b"3", 3, "sink")
    assert letter.error == "sink choosy: constraint"
    assert await bench.counts() == {"fetched": 10, "sunk": 9, "dead": 1}


async def test_what_was_refused_is_not_written_again_while_another_sink_is_away(
    bench: Bench,
) -> None:
    choosy, other = Choosy(1), Choosy(1, 2)
    lost = Record(*[SinkUnavailableError("away")] * 4)
    await bench.feed(range(4))
    await bench.settle(bench.processor(choosy=choosy, other=other, lost=lost))
    assert (choosy.tries, other.tries, lost.tries) == (1, 1, 5)
    assert sum(lost.written.values()) == 4
    assert [(x.message.data, x.error) for x in await bench.dead()] == [
        (b"1", "sink choosy: constraint; sink other: constraint"),
        (b"2", "sink other: constraint"),
    ]


async def test_a_worker_that_dies_after_a_refusal_leaves_it_known(bench: Bench) -> None:
    choosy, stuck = Choosy(1), Stuck()
    lost = Record(*[SinkUnavailableError("away")] * 1)
    await bench.feed([0, 1, 2])
    assert await bench.try_once(bench.processor(choosy=choosy, lost=lost)) == 1
    await bench.break_off(bench.processor(choosy=choosy, lost=stuck), stuck.writing)
    await bench.lose_leases()
    await bench.settle(bench.processor(choosy=choosy, lost=Record()))
    assert choosy.tries == 1
    assert [x.message.data for x in await bench.dead()] == [b"1"]
    assert await bench.counts() == {"fetched": 3, "sunk": 2, "dead": 1}


async def test_the_fallback_gets_what_was_refused_and_nothing_else(bench: Bench) -> None:
    choosy, fallback = Choosy(1, 2), Choosy(2)
    fallback.errors.append(SinkUnavailableError("away"))
    lost = Record(*[SinkUnavailableError("away")] * 3)
    await bench.feed([0, 1, 2, 3])
    await bench.settle(bench.processor(choosy=choosy, lost=lost, fallback=fallback))
    assert choosy.tries == 1
    assert {key[-2:] for key, _ in fallback.written} == {"/1"}
    [letter] = await bench.dead()
    assert letter.message.data == b"2"
    assert letter.error == "sink choosy: constraint; fallback: constraint"


@pytest.mark.parametrize("ordinals", [[], [7, 8], None])
async def test_a_refusal_that_names_none_of_the_results_is_one_of_all(
    bench: Bench, ordinals: list[int] | None
) -> None:
    await bench.feed([0, 1])
    sink = Record(SinkRejectedError("no", ordinals=ordinals))
    await bench.settle(bench.processor(sink=sink))
    assert [x.message.data for x in await bench.dead()] == [b"0", b"1"]


async def test_one_refused_of_results_that_belong_to_no_message_gives_all_messages_up(
    bench: Bench,
) -> None:
    choosy = Choosy(1)
    await bench.feed([1, 2, 3])
    await bench.settle(bench.processor(Freely, choosy=choosy))
    assert sum(choosy.written.values()) == 2
    assert len(await bench.dead()) == 3


async def test_what_is_refused_is_named_by_its_message_with_ack_done(bench: Bench) -> None:
    """Sinks know such results by their stream sequences."""
    choosy = Choosy(21)
    await bench.feed([5, 6, 7], seq=20)
    await bench.settle(bench.processor(source=DONE, choosy=choosy))
    assert [(x.message.data, x.ordinal) for x in await bench.dead()] == [(b"6", 1)]


async def test_a_redriven_result_is_refused_by_the_name_of_its_old_place(bench: Bench) -> None:
    await bench.feed([5, 6, 7, 8])
    choosy = Choosy(1, 3)
    processor = bench.processor(choosy=choosy)
    await bench.settle(processor)
    redrive = Redrive(bench.store, bench.scope, Judging(bench.config()))
    assert (await redrive.run(LetterFilter())).letters == 2
    choosy.places = frozenset({3})
    await bench.settle(processor)
    assert [(x.message.data, x.ordinal) for x in await bench.dead()] == [(b"8", 3)]


async def test_a_sink_that_cannot_be_made_is_told_in_status_and_made_once_it_can(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Record] = []
    problem, refused = "sinks: sql: url: its options cannot be used", 0

    def make(config: SinkConfig, what: str) -> Sink:
        nonlocal refused
        if problem:
            refused += 1
            raise ConfigError(f"{what}: {problem}")
        made.append(Record())
        return made[-1]

    monkeypatch.setattr(Sink, "make", make)
    await bench.feed([1, 2])
    config = bench.config(attempts=2)
    product = Product("p", tasks=StaticTaskManager([config]), pipeline=Judging)
    ready = ReadyTask(bench.store, product, config, client=bench.model)
    bench._ready.append(ready)
    processor = WindowProcessor(ready, bench.claims, bench._pause)

    async def is_tried_beyond_its_attempts() -> bool:
        await bench.try_once(processor)
        return refused >= 5

    await until(is_tried_beyond_its_attempts)
    [told] = [line for line in await bench.trouble() if "away" in line]
    assert problem in told
    problem = ""
    await bench.settle(processor)
    assert sum(made[0].written.values()) == 2
    assert await bench.dead() == []


@pytest.mark.parametrize("error", [ConnectionRefusedError("no"), OSError("disk full")])
async def test_a_product_s_own_sink_without_connection_or_room_is_away(
    bench: Bench, error: Exception
) -> None:
    sink = Record(*[error] * 5)
    await bench.feed([1, 2])
    await bench.settle(bench.processor(sink=sink, attempts=2))
    assert sum(sink.written.values()) == 2


class Telling(Record):
    """Says what it was told to say of each write.

    Attributes:
        answers: what the next writes return.
    """

    def __init__(self, *answers: Any, errors: Sequence[Exception] = ()) -> None:
        super().__init__(*errors)
        self.answers = deque(answers)

    async def write(self, results: WindowResults) -> Any:
        await super().write(results)
        return self.answers.popleft() if self.answers else None


async def result_counts(bench: Bench) -> tuple[int, int, int]:
    account = await read_account(bench.store, bench.scope)
    assert account.missing == 0
    return account.results_new, account.results_known, account.results_collided


async def test_what_sinks_say_of_results_is_in_the_account_once(bench: Bench) -> None:
    one = Telling(Confirmed(new=3), Confirmed(known=2))
    collision = SinkRejectedError("taken", ordinals=[1], confirmed=Confirmed(1, 1, collided=1))
    late = Telling(errors=[SinkUnavailableError("away"), collision])
    await bench.feed([0, 1, 2])
    await bench.settle(bench.processor(one=one, late=late, silent=Record()))
    assert await result_counts(bench) == (4, 1, 1)
    [letter] = await bench.dead()
    assert (letter.message.data, letter.error) == (b"1", "sink late: taken")


@pytest.mark.parametrize(
    "answer",
    [
        3, True, "x", (1, 2), Confirmed(new=-1), Confirmed(new=True), Confirmed(known=None),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_what_a_product_s_own_sink_says_amiss_counts_nothing_and_harms_nothing(
    bench: Bench, answer: Any
) -> None:
    await bench.feed([0, 1])
    sink = Telling(answer)
    await bench.settle(bench.processor(sink=sink))
    assert sum(sink.written.values()) == 2
    assert await result_counts(bench) == (0, 0, 0)


async def test_each_sink_gets_keys_of_its_own(bench: Bench) -> None:
    one, two, fallback = Record(), Record(), Record()
    choosy = Choosy(1)
    await bench.feed([0, 1, 2], incarnation="inc")
    await bench.settle(bench.processor(one=one, two=two, choosy=choosy, fallback=fallback))
    keys = [key for sink in (one, two, choosy, fallback) for key, _ in sink.written]
    assert len(keys) == len(set(keys)) == 3 + 3 + 2 + 1
    base = f"p~inc/{bench.scope.window_prefix}k/1"
    assert keys[0] == f"{base}/0@one"
    assert [key for key, _ in fallback.written] == [f"{base}/1@#fallback"]


# --- the model ---


async def test_a_model_that_did_not_begin_with_a_request_burns_no_attempt(bench: Bench) -> None:
    sink = Record()
    bench.model.errors.extend([InferenceUnavailableError("busy", not_begun=True)] * 10)
    await bench.feed([1, 2])
    processor = bench.processor(sink=sink, attempts=2)
    await bench.try_once(processor)
    assert any("model is away" in line for line in await bench.trouble())
    await bench.settle(processor)
    assert sum(sink.written.values()) == 2
    assert not any("away" in line for line in await bench.trouble())


async def test_a_window_handed_back_by_an_ending_worker_is_not_asked_about_again(
    bench: Bench,
) -> None:
    """The worker ends while a sink keeps it waiting: the model's answer is stored by then."""
    stuck = Stuck()
    await bench.feed([1, 2])
    claim = await bench.break_off(bench.processor(sink=stuck), stuck.writing)
    await bench.claims.release(claim, counts=False)
    sink = Record()
    await bench.settle(bench.processor(sink=sink))
    assert bench.model.asked == [[1, 2]]
    assert sum(sink.written.values()) == 2


async def test_results_that_are_known_are_written_however_often_the_worker_died(
    bench: Bench,
) -> None:
    stuck = Stuck()
    Judging.patience.update({2: 1})
    await bench.feed([1, 2, 3])
    assert await bench.try_once(bench.processor(sink=stuck, attempts=2)) == 1
    for _ in range(3):
        await bench.break_off(bench.processor(sink=stuck, attempts=2), stuck.writing)
        await bench.lose_leases()
    sink = Record()
    await bench.settle(bench.processor(sink=sink, attempts=2))
    assert bench.model.asked == [[1, 2, 3], [2]]
    assert sink.written == expected(sink.windows[0], {0: 1, 1: 2, 2: 3})
    assert await bench.dead() == []


class Deadly(Model):
    """A model whose client ends the worker when it is asked about some numbers.

    Attributes:
        killers: these.
        dies: set when the worker has died.
    """

    def __init__(self, *killers: int) -> None:
        super().__init__()
        self.killers = set(killers)
        self.dies = asyncio.Event()

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        if self.killers.intersection(request):
            self.dies.set()
            await asyncio.Event().wait()
        return await super().infer(request, idempotency_key=idempotency_key)


async def test_of_forty_items_the_one_that_kills_its_worker_is_given_up_alone(
    bench: Bench,
) -> None:
    bench.model = model = Deadly(117)
    await bench.feed(range(100, 140), [1, 2], [3])
    sink = Record()
    deaths = await bench.die_and_go_on(bench.processor(sink=sink), model.dies)
    assert deaths <= 10
    [letter] = await bench.dead()
    assert (letter.message.data, letter.stage) == (b"117", "inference")
    assert letter.error == (
        "its worker died while processing this item alone, 2 times"
        " (killed, crashed or out of memory: how is not known)"
    )
    results = [int(data) for _, data in sink.written]
    assert sorted(results) == sorted(2 * n for n in (*range(100, 140), 1, 2, 3) if n != 117)
    answered = Counter(n for request in model.asked for n in request)
    assert set(answered) == {*range(100, 140), 1, 2, 3} - {117}
    assert all(answered[n] == 1 for n in range(100, 140) if n != 117)
    counts = await bench.counts()
    assert counts == {"fetched": 43, "sunk": 42, "dead": 1}


async def test_innocents_that_died_with_another_are_not_held_to_account(bench: Bench) -> None:
    bench.model = model = Deadly(5)
    await bench.feed([1], [5], [2], [3])
    sink = Record()
    await bench.die_and_go_on(bench.processor(sink=sink, attempts=1), model.dies)
    assert [x.message.data for x in await bench.dead()] == [b"5"]
    assert {int(data) for _, data in sink.written} == {2, 4, 6}


async def test_a_window_that_is_one_result_is_given_up_whole_when_it_kills(bench: Bench) -> None:
    bench.model = model = Deadly(5)
    await bench.feed([1, 5, 2], [3, 4])
    sink = Record()
    deaths = await bench.die_and_go_on(bench.processor(Freely, sink=sink, attempts=3), model.dies)
    assert deaths == 4
    letters = await bench.dead()
    assert sorted(x.message.data for x in letters) == [b"1", b"2", b"5"]
    assert "its worker died or was lost in each of 4 attempts" in letters[0].error
    assert len(sink.written) == 2


async def test_where_every_item_kills_the_search_has_an_end(bench: Bench) -> None:
    bench.model = model = Deadly(*range(100, 140))
    await bench.feed(range(100, 140))
    sink = Record()
    deaths = await bench.die_and_go_on(bench.processor(sink=sink), model.dies)
    assert deaths <= 30
    assert len(await bench.dead()) == 40
    assert sink.written == Counter()


async def test_a_result_that_kills_its_worker_in_a_sink_is_given_up_and_others_are_written(
    bench: Bench,
) -> None:
    dies = asyncio.Event()

    class Crashing(Record):
        async def write(self, results: WindowResults) -> None:
            if any(row.data == b"12" for row in results):
                dies.set()
                await asyncio.Event().wait()
            await super().write(results)

    sink = Crashing()
    await bench.feed(range(10))
    deaths = await bench.die_and_go_on(bench.processor(sink=sink), dies)
    assert deaths <= 12
    [letter] = await bench.dead()
    assert (letter.message.data, letter.stage) == (b"6", "sink")
    assert letter.error.startswith("its worker died while processing this item alone")
    assert sorted(int(data) for _, data in sink.written) == [0, 2, 4, 6, 8, 10, 14, 16, 18]
    assert bench.model.asked == [list(range(10))]


async def test_a_model_that_is_away_in_the_search_blames_nobody(bench: Bench) -> None:
    await bench.feed([1, 2, 3, 4])
    gone = InferenceUnavailableError("starting", not_begun=True)

    class Away(Deadly):
        async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
            if len(request) == 2 and not self.errors and not self.calls:
                self.calls.append((request, idempotency_key))
                raise gone
            return await super().infer(request, idempotency_key=idempotency_key)

    bench.model = model = Away(3)
    processor = bench.processor(sink=(sink := Record()))
    await bench.die_and_go_on(processor, model.dies)
    assert [x.message.data for x in await bench.dead()] == [b"3"]
    assert {int(data) for _, data in sink.written} == {2, 4, 8}


# --- what is counted ---


async def test_what_the_worker_filters_that_the_ingestor_counted_is_filtered(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Record()
    await bench.feed([1, 99, 3, -5], [99, 99])
    await bench.settle(bench.processor(sink=sink))
    account = await read_account(bench.store, bench.scope)
    assert (account.fetched, account.filtered, account.sunk, account.dead) == (6, 3, 2, 1)
    assert (account.missing, account.results, account.fruitless) == (0, 2, 0)
    assert "preprocess filters out 1 of its 4 messages" in caplog.text
    assert sum(sink.written.values()) == 2


async def test_messages_without_any_result_are_told_apart_from_results(bench: Bench) -> None:
    class Silent(Freely):
        def build_results(self, window: Window[int], response: Any) -> list[Result]:
            return [] if 1 in window else [Result(n) for n in (*window, *window)]

    sink = Record()
    await bench.feed([1, 2], [3])
    await bench.settle(bench.processor(Silent, sink=sink))
    account = await read_account(bench.store, bench.scope)
    assert (account.fetched, account.sunk, account.missing) == (3, 3, 0)
    assert (account.results, account.fruitless) == (2, 2)


# --- ids of items, and claims whose answer comes late ---


class NoHash:
    __hash__ = None  # type: ignore[assignment]


class Exits:
    def __hash__(self) -> int:
        raise SystemExit("from a hash")


class Unequal:
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("not to be compared")


@pytest.mark.parametrize("keep", ["first", "last"])
async def test_an_item_id_that_cannot_be_used_harms_its_item_alone_and_at_once(
    bench: Bench, keep: str
) -> None:
    class Odd(Judging):
        def item_id(self, item: int) -> Any:
            return {5: NoHash(), 6: Exits(), 7: Unequal()}.get(item, min(item, 3))

    sink = Record()
    await bench.feed([1, 5, 2, 6, 3, 7, 4])
    assert await bench.try_once(bench.processor(Odd, dedupe=keep, sink=sink)) == 0
    letters = await bench.dead()
    assert [(x.message.data, x.stage, x.attempts) for x in letters] == [
        (data, "preprocess", 1) for data in (b"5", b"6", b"7")
    ]
    reasons = ["unhashable type", "SystemExit: from a hash", "not to be compared"]
    assert all(why in x.error for why, x in zip(reasons, letters, strict=True))
    assert {int(data) for _, data in sink.written} == {2, 4, 6 if keep == "first" else 8}
    assert (await read_account(bench.store, bench.scope)).missing == 0


async def lease_ms(bench: Bench, claim: Claim) -> float:
    until_ms: Any = await bench.store.redis.zscore(
        PartitionKeys(bench.scope).leases, claim.window.id
    )
    return float(until_ms or 0)


async def test_what_a_claim_was_given_is_kept_until_its_answer_is_read(
    bench: Bench, redis_server: RedisServer
) -> None:
    await bench.feed([1, 2])
    keeper = LeaseKeeper(asyncio.get_running_loop(), None, lambda: Store(redis_server.url))
    try:
        with keeper.claiming(bench.scope, 1000) as name:
            claims, _ = await bench.claims.claim(1, lease_ms=1000, name=name)
            [claim] = claims
            until_ms = await lease_ms(bench, claim)

            async def is_renewed() -> bool:
                return await lease_ms(bench, claim) >= until_ms + 1000

            await until(is_renewed, "somebody to renew it")
        assert await bench.claims.renew(claims, lease_ms=1000) == [True]
    finally:
        keeper.close()
    assert not await bench.store.redis.exists(PartitionKeys(bench.scope).deaths)


# --- what cannot be read ---


@pytest.mark.parametrize("damage", ["truncated", "another version", "no value at all"])
async def test_a_window_whose_record_cannot_be_read_harms_no_other_and_is_given_up(
    bench: Bench, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "_UNREADABLE_MS", 1)
    await bench.feed([1, 2], [3, 4], [5, 6])
    keys, redis = PartitionKeys(bench.scope), bench.store.redis
    values: dict[bytes, bytes] = await redis.hgetall(keys.closed)  # type: ignore[assignment]
    bad = sorted(values)[1]
    value = values[bad]
    if damage == "truncated":
        value = value[:-9]
    elif damage == "another version":
        reason, closed_ms, blob = value.split(b" ", 2)
        fields = msgspec.msgpack.decode(blob)
        fields[0] = {"key": fields[0]}
        value = b" ".join([reason, closed_ms, msgspec.msgpack.encode(fields)])
    else:
        value = b""
    await redis.hset(keys.closed, bad, value)
    sink = Record()
    processor = bench.processor(sink=sink, attempts=2)
    assert await bench.try_once(processor) == 1
    assert len(sink.windows) == 2
    [found] = await audit(bench.store, [bench.scope])
    assert found.account.missing == 0
    assert f"window {bad.decode()}: " in " ".join(found.problems)
    assert any(f"window {bad.decode()} waits" in text for text in await bench.trouble())
    await bench.settle(processor)
    letters = await bench.dead()
    assert len(letters) == 2
    assert letters[0].stage == "window"
    assert letters[0].error.startswith("given up after 2 attempts (max_attempts): ")
    got = {int(data) for _, data in sink.written} | {2 * int(x.message.data) for x in letters}
    assert got == {2, 4, 6, 8, 10, 12}
    assert not any("waits" in text for text in await bench.trouble())


async def test_an_open_window_that_cannot_be_read_does_not_stop_its_partition(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "_UNREADABLE_MS", 1)
    writer = PartitionWriter(bench.store, bench.scope, owner="w", lease_ms=60_000)
    await writer.acquire()
    await writer.load()
    planner = make_planner(window_spec(type="count", count=3), bench.scope.window_prefix)
    plan = planner.plan([Entry(Message(b"1", "in.a", None, 1, 1), "k", 0)], 0)
    await writer.commit(Commit(plan, b"", counts={"fetched": 1}))
    await Schedule(bench.store).register(bench.scope)
    keys, redis = PartitionKeys(bench.scope), bench.store.redis
    [name] = await redis.hkeys(keys.open)
    await redis.hset(keys.open, name, b"\xc1 of another version")
    [found] = await audit(bench.store, [bench.scope])
    assert found.account.missing == 0
    assert (await writer.load()).windows == {}
    await bench.settle(bench.processor(sink=Record(), attempts=1))
    [letter] = await bench.dead()
    assert letter.message.data == b"1"
    assert "its record cannot be read" in letter.error


async def test_letters_and_ledger_entries_that_cannot_be_read_harm_no_reader(bench: Bench) -> None:
    await bench.feed([-1], [2])
    await bench.settle(bench.processor(sink=Record()))
    keys, redis = PartitionKeys(bench.scope), bench.store.redis
    await redis.xadd(keys.dead, {"letter": b"\xc1"})
    await redis.xadd(keys.ledger, {"entry": b"\xc1"})
    assert len([f async for f in read_ledger(bench.store, bench.scope)]) == 2
    letters = await bench.dead()
    assert [is_readable(letter) for letter in letters] == [True, False]
    assert "this dead letter cannot be read" in letters[1].error
    assert letters[1].message.data == b"\xc1"


# --- what results are called ---

DONE = {"stream": "S", "durable": "d", "ack": "done"}


async def test_messages_in_windows_cut_anew_have_results_of_the_same_names_with_ack_done(
    bench: Bench,
) -> None:
    sink = Record()
    processor = bench.processor(source=DONE, sink=sink)
    await bench.feed([1, 99, 3], [4, 5], seq=7)
    await bench.settle(processor)
    name = "/".join(map(escape, bench.scope[1:]))
    once = {(f"{name}/{seq}", b"%d" % (2 * n)) for seq, n in ((7, 1), (9, 3), (10, 4), (11, 5))}
    assert set(sink.written) == once
    # Redis was wiped, so that they are read once more.
    await bench.feed([1], [99, 3, 4, 5], seq=7)
    await bench.settle(processor)
    assert set(sink.written) == once
    assert len({window.window_id for window in sink.windows}) == 3
    assert {window.base_id for window in sink.windows} == {name}


async def test_a_redriven_message_has_the_name_that_it_would_have_had(bench: Bench) -> None:
    sink = Record(SinkRejectedError("no"))
    processor = bench.processor(source=DONE, sink=sink)
    await bench.feed([1, 2, 3], seq=20)
    await bench.settle(processor)
    assert len(await bench.dead()) == 3
    redrive = Redrive(bench.store, bench.scope, Judging(bench.config(source=DONE)))
    assert (await redrive.run(LetterFilter(first_seq=21))).letters == 2
    await bench.settle(processor)
    assert [row.ordinal for window in sink.windows for row in window] == [21, 22]
