"""Tumbling windows at their boundaries. Drawings: time runs right, digits are items by number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import Item


def members(partition: PlannedPartition) -> list[tuple[int, ...]]:
    return [window.members for window in partition.fired]


def by_event_time(**settings: Any) -> PlannedPartition:
    return PlannedPartition(type="tumbling", size="10ms", time="event", **settings)


#   0         10        20
#   [1       2)[3         )
def test_an_item_on_an_edge_belongs_to_the_window_that_starts_there() -> None:
    partition = by_event_time()
    partition.give(0, 9, 10)
    assert members(partition) == [(1, 2)]
    [first] = partition.fired
    assert (first.id, first.start, first.end, first.reason) == ("t/p/a/0/0", 0, 10, "time")


#   0         10        20        30        40
#   [1        )[         )[         )[2        )
def test_windows_without_items_do_not_exist() -> None:
    partition = by_event_time()
    partition.give(5, 35)
    partition.close_all("drain")
    assert [(window.start, window.members) for window in partition.fired] == [(0, (1,)), (30, (2,))]


#   0         10
#   [1        )       a later item of another key moves the watermark for all keys
def test_one_item_of_one_key_is_a_window() -> None:
    partition = by_event_time()
    partition.give(3)
    assert not partition.fired
    partition.take([Item(2, "b", 12)])
    assert [(window.id, window.members) for window in partition.fired] == [("t/p/a/0/0", (1,))]


#   -20       -10       0         10
#   [1        )[2        )[3        )      floor, not truncation: -1 is in [-10, 0)
def test_times_before_the_epoch_have_windows_of_their_own() -> None:
    partition = by_event_time()
    partition.give(-11, -1, 0)
    partition.close_all("drain")
    assert [(window.start, window.end) for window in partition.fired] == [
        (-20, -10), (-10, 0), (0, 10),
    ]  # fmt: skip
    assert partition.fired[0].id == "t/p/a/-20/0"


#   2024-02-28    02-29         03-01
#   [1           )[2           )[3
def test_a_leap_day_is_a_day_like_any_other() -> None:
    partition = PlannedPartition(type="tumbling", size="1d", time="event")
    noon = [
        int(datetime(2024, month, day, 12, tzinfo=UTC).timestamp() * 1000)
        for month, day in ((2, 28), (2, 29), (3, 1))
    ]
    partition.give(*noon)
    partition.close_all("drain")
    assert members(partition) == [(1,), (2,), (3,)]
    starts = [datetime.fromtimestamp((w.start or 0) / 1000, UTC) for w in partition.fired]
    assert starts[1] == datetime(2024, 2, 29, tzinfo=UTC)


#   Berlin, 2024-03-31, the clocks go from 02:00 to 03:00:
#   UTC     00:00     01:00     02:00
#   local   01:00   02:00=03:00 04:00
#           [1       2)[3        )         hours are hours of UTC: none is skipped, none is double
@pytest.mark.parametrize("day", [(2024, 3, 31), (2024, 10, 27)])
def test_daylight_saving_time_moves_no_window(day: tuple[int, int, int]) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    midnight = datetime(*day, tzinfo=berlin).astimezone(UTC)
    start = int(midnight.timestamp() * 1000)
    hour = 3_600_000
    partition = PlannedPartition(type="tumbling", size="1h", time="event")
    partition.give(*(start + n * hour for n in range(6)))
    partition.close_all("drain")
    assert [window.start for window in partition.fired] == [start + n * hour for n in range(6)]


#   0         10        20
#   [1     3  )[   2     )      2 moves the watermark to 13 - 4 = 9: the first window is still open
def test_an_item_within_the_out_of_orderness_is_not_late() -> None:
    partition = by_event_time(max_out_of_orderness="4ms")
    partition.give(0, 13, 7)
    assert partition.watermark == 9
    assert not partition.late
    partition.give(14)
    assert members(partition) == [(1, 3)]


#   0         10
#   [1     3  )2    2 at 10 closes [0, 10); 3 at 9 comes one too late
@pytest.mark.parametrize("policy", ["drop", "dead_letter"])
def test_an_item_of_a_closed_window_is_late(policy: str) -> None:
    partition = by_event_time(late=policy)
    partition.give(0, 10, 9)
    assert partition.late == [3]
    partition.close_all("drain")
    assert members(partition) == [(1,), (2,)]


def test_the_watermark_never_goes_back() -> None:
    partition = by_event_time()
    partition.give(50, 3)
    assert partition.watermark == 50
    partition.restart()
    partition.give(7)
    assert partition.watermark == 50
    assert partition.late == [2, 3]


#   0         10       15        allowed_lateness 5ms: until the watermark is 15, items of [0, 10)
#   [1 3 4    )2        )5       fire it again, whole; from 15 on they are late
def test_a_late_item_fires_the_whole_window_again() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms")
    partition.give(0, 12, 4, 5, 15, 6)
    partition.give(30)
    assert [(w.id, w.revision, w.members) for w in partition.fired[:3]] == [
        ("t/p/a/0/0", 0, (1,)),
        ("t/p/a/0/1", 1, (1, 3)),
        ("t/p/a/0/2", 2, (1, 3, 4)),
    ]
    assert partition.late == [6]
    assert all(revision.reason == "time" for revision in partition.fired)


#   0         10      a late item of a key that had none fires its window for the first time
#   [a  b     )
def test_a_late_item_may_open_a_window_within_the_allowed_lateness() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms")
    partition.take([Item(1, "a", 12), Item(2, "b", 3)])
    assert [(window.id, window.members) for window in partition.fired] == [("t/p/b/0/0", (2,))]


def test_nothing_is_kept_of_windows_that_can_fire_no_more() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms")
    partition.give(0, 10, 20, 100)
    assert len(partition.open) == 1
    assert partition.refs == {
        "t/p/a/0/0": 1,  # what the fired window holds until it is done
        "t/p/a/10/0": 1,
        "t/p/a/20/0": 1,
        "t/p/a/100/0": 1,  # the open one
    }


#   0                 10
#   [1 2 3)(4 5 6)(7   )    max_count 3: parts of one window, told apart by their first message
def test_a_count_closes_parts_of_a_window() -> None:
    partition = by_event_time(max_count=3)
    partition.give(0, 1, 2, 3, 4, 5, 6, 10)
    assert [(w.id, w.reason, w.members) for w in partition.fired] == [
        ("t/p/a/0@1/0", "count", (1, 2, 3)),
        ("t/p/a/0@4/0", "count", (4, 5, 6)),
        ("t/p/a/0@7/0", "time", (7,)),
    ]


def test_bytes_close_a_window_with_the_item_that_reaches_them() -> None:
    partition = by_event_time(max_bytes=10)
    partition.take(
        [Item(1, "a", 0, 4), Item(2, "a", 0, 5), Item(3, "a", 0, 1), Item(4, "a", 0, 99)]
    )
    assert [(w.reason, w.members) for w in partition.fired] == [
        ("bytes", (1, 2, 3)),
        ("bytes", (4,)),
    ]


#   clock     1000      1010      1020
#             [1     2  )[3         )      the end comes by the clock: beat closes, reason time
def test_processing_time_windows_end_by_the_clock() -> None:
    partition = PlannedPartition(type="tumbling", size="10ms")
    partition.give(0, now=1003)
    partition.give(0, now=1009)
    partition.give(0, now=1010)
    partition.tick(1009)
    assert not partition.fired
    partition.tick(1010)
    assert [(w.id, w.reason, w.members) for w in partition.fired] == [
        ("t/p/a/1000@1/0", "time", (1, 2))
    ]


#   clock     1000      1010      1020
#             [  1-----|2         )        max_wait 4ms: closed at 1007, the rest in another part
def test_max_wait_closes_a_part_after_its_first_item() -> None:
    partition = PlannedPartition(type="tumbling", size="10ms", max_wait="4ms")
    partition.give(0, now=1003)
    partition.give(0, now=1008)
    partition.tick(1010)
    assert [(w.id, w.members) for w in partition.fired] == [
        ("t/p/a/1000@1/0", (1,)),
        ("t/p/a/1000@2/0", (2,)),
    ]


def test_the_planner_keeps_nothing_of_windows_that_beat_closes() -> None:
    partition = PlannedPartition(type="tumbling", size="10ms")
    for n in range(100):
        partition.take([Item(n, f"key {n}", 0)], now=1000 + 10 * n)
        partition.tick(1000 + 10 * n)
    assert len(list(partition.planner.open_windows())) == 1


#   0         10        20
#   [1        |          )   idle at 10 (nothing pending): closed early, and ruled out for later
def test_idle_closes_windows_and_rules_out_their_return() -> None:
    partition = by_event_time(idle="1s")
    partition.give(3, 12)
    partition.close_all("idle")
    assert [(w.reason, w.members) for w in partition.fired] == [("time", (1,)), ("idle", (2,))]
    partition.give(15, 21)
    assert partition.late == [3]
    assert len({window.id for window in partition.fired}) == 2


def test_idle_lets_go_of_fired_windows_whose_lateness_it_ends() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms", idle="1s")
    partition.give(3, 12, 200)
    partition.close_all("idle")
    assert partition.watermark == 210
    partition.give(300)
    partition.close_all("drain")
    assert not partition.open


def test_a_drain_leaves_nothing_open_and_a_second_one_does_nothing() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms")
    partition.give(3, 12)
    partition.close_all("drain")
    assert [window.reason for window in partition.fired] == ["time", "drain"]
    assert not partition.open
    partition.close_all("drain")
    assert len(partition.fired) == 2
