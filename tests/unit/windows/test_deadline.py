"""Windows that close in time for their results: by what is known of how long the model takes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sinfer.errors import WindowConflictError
from sinfer.windows.latency_curve import CallSums, LatencyCurve
from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import Item

CURVE = LatencyCurve(call_ms=20, item_ms=5)


def partition_of(curve: LatencyCurve | None = CURVE, **settings: Any) -> PlannedPartition:
    shape: dict[str, Any] = settings if "type" in settings else {"type": "count", "count": 100}
    partition = PlannedPartition(**{**shape, **settings, "deadline": "200ms"})
    partition.planner.curve = curve
    return partition


#   due 200 after the first item; 20 are for all but the model
#   1 item:   closes 200 - 20 - (20 + 5)  = 155 after the first
#   5 items:         200 - 20 - (20 + 25) = 135 after the first
@pytest.mark.parametrize(("items", "closes_ms"), [(1, 155), (5, 135), (12, 100)])
def test_a_window_closes_the_sooner_the_more_items_it_has(items: int, closes_ms: int) -> None:
    partition = partition_of()
    partition.take([Item(n, "a", 0) for n in range(1, items + 1)], now=1000)
    partition.take([], now=1000 + closes_ms - 1)
    assert not partition.fired
    assert partition.planner.closes_in_ms(1000 + closes_ms - 1) == 1
    partition.take([], now=1000 + closes_ms)
    [window] = partition.fired
    assert (window.reason, len(window.members)) == ("deadline", items)
    assert partition.planner.closes_in_ms(1000 + closes_ms) is None


def test_items_that_come_once_it_is_due_open_another_window() -> None:
    partition = partition_of()
    partition.take([Item(1, "a", 0)], now=1000)
    partition.take([Item(2, "a", 0), Item(3, "b", 0)], now=1155)
    assert [(w.members, w.reason) for w in partition.fired] == [((1,), "deadline")]
    assert set(partition.open) == {"t/p/a/2", "t/p/b/3"}


def test_it_closes_at_its_count_before_that() -> None:
    partition = partition_of(count=2)
    partition.take([Item(1, "a", 0), Item(2, "a", 0)], now=1000)
    assert [window.reason for window in partition.fired] == ["count"]


def test_half_of_the_deadline_is_left_to_a_model_of_which_nothing_is_known() -> None:
    partition = partition_of(None)
    partition.take([Item(1, "a", 0)], now=1000)
    assert partition.planner.closes_in_ms(1000) == 80


def test_a_window_waits_a_little_for_company_however_slow_the_model_is() -> None:
    partition = partition_of(LatencyCurve(5000, 0))
    partition.take([Item(1, "a", 0)], now=1000)
    assert partition.planner.closes_in_ms(1000) == 20


def test_calls_that_vary_are_given_more_time() -> None:
    steady, varying = (partition_of(LatencyCurve(20, 5, off)) for off in (0, 20))
    for partition in (steady, varying):
        partition.take([Item(1, "a", 0)], now=1000)
    assert steady.planner.closes_in_ms(1000) == 155
    assert varying.planner.closes_in_ms(1000) == 95


def test_beat_closes_it_where_no_ingestor_does_and_says_why() -> None:
    partition = partition_of()
    partition.take([Item(1, "a", 0)], now=1000)
    partition.tick(1155)
    assert [(w.members, w.reason) for w in partition.fired] == [((1,), "deadline")]
    partition.take([Item(2, "a", 0)], now=1155)  # the planner hears of it by a conflict
    assert list(partition.open) == ["t/p/a/2"]


def test_both_close_it_once() -> None:
    partition = partition_of()
    partition.take([Item(1, "a", 0)], now=1000)
    plan = partition.planner.plan([], 1155)
    assert [window.reason for window in plan.closed] == ["deadline"]
    partition.tick(1155)
    with pytest.raises(WindowConflictError) as conflict:
        partition._store(plan)
    partition.planner.forget(conflict.value.window_ids)
    partition.take([], now=1156)
    assert [w.members for w in partition.fired] == [(1,)]


def test_it_is_kept_across_a_restart() -> None:
    partition = partition_of()
    partition.take([Item(1, "a", 0)], now=1000)
    partition.restart()
    partition.planner.curve = LatencyCurve(20, 5)
    partition.take([Item(2, "a", 0)], now=1100)
    assert partition.planner.closes_in_ms(1100) == 50
    partition.take([], now=1150)
    assert [w.members for w in partition.fired] == [(1, 2)]


@pytest.mark.parametrize("settings", [{}, {"time": "event", "max_out_of_orderness": "1m"}])
def test_sessions_that_merge_keep_the_earlier_deadline(settings: dict[str, Any]) -> None:
    partition = partition_of(type="session", gap="10s", **settings)
    partition.take([Item(1, "a", 1000)], now=1000)
    partition.take([Item(2, "a", 19_000)], now=1050)
    partition.take([Item(3, "a", 10_500)], now=1060)  # bridges the two in event time
    assert partition.planner.closes_in_ms(1060) == 1000 + 200 - 20 - (20 + 15) - 1060
    partition.take([], now=1145)
    assert [(w.members, w.reason) for w in partition.fired] == [((1, 2, 3), "deadline")]


def test_tumbling_windows_that_end_before_are_left_to_beat() -> None:
    partition = partition_of(type="tumbling", size="50ms")
    partition.take([Item(1, "a", 0)], now=1000)
    partition.take([], now=1060)
    assert not partition.fired
    partition.tick(1060)
    assert [window.reason for window in partition.fired] == ["time"]


def test_windows_opened_before_there_was_a_deadline_have_none() -> None:
    partition = PlannedPartition(type="count", count=100, max_wait="10s")
    partition.take([Item(1, "a", 0)], now=1000)
    partition.spec = partition_of(max_wait="10s").spec
    partition.restart()
    partition.take([Item(2, "a", 0)], now=5000)
    assert not partition.fired
    assert partition.planner.closes_in_ms(5000) == 6000


# --- the curve ---


def test_the_curve_is_found_again_in_calls_that_follow_it() -> None:
    draw = random.Random(1)
    calls = [(n, 30 + 2 * n + draw.uniform(-1, 1)) for n in range(1, 60)]
    curve = LatencyCurve.fitted(CallSums.of(calls, LatencyCurve(30, 2)))
    assert curve is not None
    assert curve.call_ms == pytest.approx(30, abs=1)
    assert curve.item_ms == pytest.approx(2, abs=0.1)
    assert curve.deviation_ms == pytest.approx(0.5, abs=0.2)
    assert curve.expected_ms(10) == pytest.approx(51.5, abs=1.5)


@pytest.mark.parametrize(
    "calls",
    [
        [(10, 50.0)] * 20,
        [(1, 90.0), (50, 40.0), (100, 10.0)] * 5,
        [(0, 0.0)] * 10,
        [(1_000_000, 1e9), (1, 0.001), (3, 1.0)],
    ],
)
def test_a_curve_never_says_that_a_call_takes_less_than_no_time(
    calls: list[tuple[int, float]],
) -> None:
    curve = LatencyCurve.fitted(CallSums.of(calls, None))
    assert curve is not None
    for items in (0, 1, 10, 1000):
        assert curve.expected_ms(items) >= 0


def test_of_a_few_calls_nothing_is_said() -> None:
    assert LatencyCurve.fitted(CallSums()) is None
    assert LatencyCurve.fitted(CallSums.of([(1, 10.0)], None)) is None
    assert LatencyCurve.fitted(CallSums.read({"weight": "nan", "items": "x"})) is None
    assert LatencyCurve.fitted(CallSums.read({"weight": "nan"})) is None
