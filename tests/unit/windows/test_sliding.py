"""Sliding windows at their boundaries. Drawings: time runs right, digits are items by number."""

from __future__ import annotations

from typing import Any

from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import Item


def by_event_time(size: str = "10ms", slide: str = "5ms", **settings: Any) -> PlannedPartition:
    return PlannedPartition(type="sliding", size=size, slide=slide, time="event", **settings)


#  -5    0    5    10   15
#   [    1    )
#        [1    2   )
#             [2   3    )
#                  [3    )
def test_an_item_on_an_edge_is_in_the_windows_that_start_there() -> None:
    partition = by_event_time()
    partition.give(0, 5, 10)
    partition.close_all("drain")
    assert [(w.start, w.members) for w in partition.fired] == [
        (-5, (1,)),
        (0, (1, 2)),
        (5, (2, 3)),
        (10, (3,)),
    ]


#   0    2    4    6    8          size 5, slide 2: panes are cut at 0 1 2 3 4 ...
#   [ 1       )                    1 at 2 is in [0,5) and [2,7), and [-2,3)
#        [ 1 again )
def test_size_need_not_be_a_multiple_of_slide() -> None:
    partition = by_event_time(size="5ms", slide="2ms")
    partition.give(2)
    partition.close_all("drain")
    assert [(w.start, w.end) for w in partition.fired] == [(-2, 3), (0, 5), (2, 7)]


def test_a_slide_as_long_as_the_size_makes_tumbling_windows() -> None:
    partition = by_event_time(size="10ms", slide="10ms")
    partition.give(0, 9, 10)
    partition.close_all("drain")
    assert [(w.start, w.members) for w in partition.fired] == [(0, (1, 2)), (10, (3,))]


def test_windows_that_share_an_item_store_it_once() -> None:
    partition = by_event_time(size="100ms", slide="10ms")
    partition.give(*range(0, 1000, 7))
    stored = [m.stream_seq for chunks in partition.chunks.values() for c in chunks for m in c]
    assert len(stored) == len(set(stored)) == 143
    assert sum(len(window.members) for window in partition.fired) > 8 * 100


#  -10   -5    0
#   [1    )              1 at -10 is in [-15,-5) and [-10,0)
def test_times_before_the_epoch() -> None:
    partition = by_event_time()
    partition.give(-10)
    partition.close_all("drain")
    assert [(w.start, w.end) for w in partition.fired] == [(-15, -5), (-10, 0)]


#   0    5    10   15        2 at 12 closes [0,10); 3 at 8 misses that one, and is in time for
#   [    .    )              [5,15) alone
#        [ 3   2   )
def test_an_item_late_for_one_window_is_in_time_for_the_next() -> None:
    partition = by_event_time()
    partition.give(1, 12, 8)
    partition.close_all("drain")
    assert not partition.late
    by_start = {window.start: window.members for window in partition.fired}
    assert by_start == {-5: (1,), 0: (1,), 5: (2, 3), 10: (2,)}


def test_an_item_late_for_all_its_windows_is_late() -> None:
    partition = by_event_time()
    partition.give(1, 15, 4)
    assert partition.late == [3]
    partition.give(5)
    assert partition.late == [3, 4]


#   0    5    10   15   20     allowed_lateness 5ms: [0,10) fires again until the watermark is 15
#   [1   .    )
#        [ 3  . 2  )
def test_a_late_item_fires_every_window_again_that_it_is_in() -> None:
    partition = by_event_time(late="update", allowed_lateness="5ms")
    partition.give(1, 12)
    partition.give(7)
    assert [(w.id, w.members) for w in partition.fired] == [
        ("t/p/a/-5/0", (1,)),
        ("t/p/a/0/0", (1,)),
        ("t/p/a/0/1", (1, 3)),
    ]


def test_empty_stretches_leave_no_windows_and_no_panes() -> None:
    partition = by_event_time()
    partition.give(0, 1_000_000)
    assert [w.start for w in partition.fired] == [-5, 0]
    assert list(partition.open) == ["t/p/a/1000000/pane"]


def test_keys_close_in_order_at_each_end() -> None:
    partition = by_event_time()
    partition.take([Item(1, "b", 1), Item(2, "a", 1), Item(3, "c", 30)])
    assert [(w.end, w.id.split("/")[2]) for w in partition.fired] == [
        (5, "a"), (5, "b"), (10, "a"), (10, "b"),
    ]  # fmt: skip


#   clock  1000   1005   1010
#           [1            )         in processing time the clock is the watermark
def test_processing_time_windows_close_when_the_clock_is_planned() -> None:
    partition = PlannedPartition(type="sliding", size="10ms", slide="5ms")
    partition.give(0, now=1002)
    assert partition.planner.next_deadline_ms == 1005
    partition.take([], now=1005)
    assert [(w.start, w.members) for w in partition.fired] == [(995, (1,))]
    assert partition.planner.next_deadline_ms == 1010
    partition.take([], now=1020)
    assert [(w.start, w.members) for w in partition.fired] == [(995, (1,)), (1000, (1,))]
    assert not partition.open
    assert partition.planner.next_deadline_ms is None


def test_a_clock_that_goes_back_makes_nothing_late_and_fires_nothing_twice() -> None:
    partition = PlannedPartition(type="sliding", size="10ms", slide="5ms")
    partition.give(0, now=1012)
    partition.give(0, now=900)
    partition.give(0, now=1030)
    assert not partition.late
    assert partition.watermark == 1030
    assert len({window.id for window in partition.fired}) == len(partition.fired)
    assert {window.members for window in partition.fired} == {(1, 2)}


def test_idle_closes_all_windows_and_frees_the_panes() -> None:
    partition = by_event_time(idle="1s")
    partition.give(1, 7)
    partition.close_all("idle")
    assert [(w.start, w.reason) for w in partition.fired] == [
        (-5, "time"), (0, "idle"), (5, "idle"),
    ]  # fmt: skip
    assert not partition.open
    assert all(holders > 0 for holders in partition.refs.values())
