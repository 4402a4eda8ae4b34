"""Session windows at their boundaries. Drawings: time runs right, digits are items by number."""

from __future__ import annotations

from typing import Any

from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import Item


def by_event_time(**settings: Any) -> PlannedPartition:
    return PlannedPartition(type="session", gap="10ms", time="event", **settings)


#   0         10        20
#   1--------)
#            2---------)       2 at 9 is less than the gap behind 1
def test_items_less_than_a_gap_apart_are_one_session() -> None:
    partition = by_event_time()
    partition.give(0, 9, 50)
    [session] = partition.fired
    assert (session.id, session.members, session.reason) == ("t/p/a/1", (1, 2), "gap")
    assert (session.start, session.end) == (0, 19)


#   0         10        20
#   1---------)
#             2---------)      exactly a gap apart: [0,10) and [10,20) do not overlap
def test_an_item_exactly_a_gap_behind_starts_a_session() -> None:
    partition = by_event_time()
    partition.give(0, 10, 50)
    assert [window.members for window in partition.fired] == [(1,), (2,)]


#   0         10        20        30
#   1---------)
#                   2---------)
#            3---------)            3 at 9 overlaps both: one session, named after its first item
def test_an_item_that_bridges_two_sessions_merges_them() -> None:
    partition = by_event_time(max_out_of_orderness="30ms")
    partition.give(0, 16)
    assert len(partition.open) == 2
    partition.give(9)
    assert list(partition.open) == ["t/p/a/1"]
    partition.close_all("drain")
    [session] = partition.fired
    assert (session.id, session.members) == ("t/p/a/1", (1, 2, 3))
    assert (session.start, session.end) == (0, 26)


#   the same, but the later session has the earlier message: its name stays
def test_a_merged_session_is_named_after_its_earliest_message() -> None:
    partition = by_event_time(max_out_of_orderness="30ms")
    partition.give(16, 0, 9, 12)
    partition.restart()
    partition.give(13)
    partition.close_all("drain")
    [session] = partition.fired
    assert (session.id, session.members) == ("t/p/a/1", (1, 2, 3, 4, 5))


#   -10       0
#   1---------)
#           2---------)
def test_sessions_span_the_epoch() -> None:
    partition = by_event_time()
    partition.give(-10, -2)
    partition.close_all("drain")
    [session] = partition.fired
    assert (session.start, session.end, session.members) == (-10, 8, (1, 2))


#   0         10        20          the watermark is 20 - 0: a session at 9 would end at 19
#   1---------)         2
#            3---------)
def test_an_item_whose_own_session_would_have_ended_is_late() -> None:
    partition = by_event_time()
    partition.give(0, 20, 9)
    assert partition.late == [3]


#   0         10        20        30
#             1---------)           the watermark is 15: [2,12) has ended, but joins the open one
#     2---------)
def test_an_item_that_joins_an_open_session_is_in_time() -> None:
    partition = by_event_time(max_out_of_orderness="10ms")
    partition.take([Item(1, "a", 10), Item(2, "b", 25), Item(3, "a", 2)])
    assert not partition.late
    partition.close_all("drain")
    assert [(w.id, w.start, w.members) for w in partition.fired] == [
        ("t/p/a/1", 2, (1, 3)),
        ("t/p/b/2", 25, (2,)),
    ]


def test_keys_have_sessions_of_their_own() -> None:
    partition = by_event_time()
    partition.take([Item(1, "a", 0), Item(2, "b", 5), Item(3, "a", 8)])
    partition.close_all("drain")
    assert [window.members for window in partition.fired] == [(2,), (1, 3)]


def test_a_count_ends_a_session_and_the_next_item_starts_one() -> None:
    partition = by_event_time(max_count=2)
    partition.give(0, 1, 2)
    partition.close_all("drain")
    assert [(w.reason, w.members) for w in partition.fired] == [("count", (1, 2)), ("drain", (3,))]


#   clock  1000      1010      1020
#          1---------)
#                  2---------)          beat closes it a gap after its last item
def test_processing_time_sessions_end_by_the_clock() -> None:
    partition = PlannedPartition(type="session", gap="10ms")
    partition.give(0, now=1000)
    partition.give(0, now=1008)
    partition.tick(1017)
    assert not partition.fired
    partition.tick(1018)
    [session] = partition.fired
    assert (session.reason, session.start, session.end) == ("gap", 1000, 1018)


#   clock  1000      1010      1020
#          1---------)
#                  2------|           max_wait 15ms ends it at 1015 whatever comes
def test_max_wait_ends_a_session_that_would_go_on() -> None:
    partition = PlannedPartition(type="session", gap="10ms", max_wait="15ms")
    partition.give(0, now=1000)
    partition.give(0, now=1008)
    partition.tick(1014)
    assert not partition.fired
    partition.tick(1015)
    assert [(w.reason, w.members) for w in partition.fired] == [("time", (1, 2))]


def test_merged_sessions_keep_every_chunk_over_restarts() -> None:
    partition = by_event_time(max_out_of_orderness="100ms")
    for time_ms in (0, 40, 80, 20, 60, 10, 30, 50, 70, 5, 45, 85):
        partition.give(time_ms)
        partition.restart()
    partition.give(9, 15, 25, 35)
    partition.close_all("drain")
    assert sorted(seq for window in partition.fired for seq in window.members) == list(range(1, 17))
