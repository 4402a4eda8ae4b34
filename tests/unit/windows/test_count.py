"""Count windows, and the product's own trigger."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.errors import ConfigError, InvalidItemError
from sinfer.windows.planner import WindowStats
from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import Item


#   a: 1 2 . 4      b: . . 3 .
def test_each_key_counts_for_itself() -> None:
    partition = PlannedPartition(type="count", count=3)
    partition.take([Item(1, "a", 0), Item(2, "a", 0), Item(3, "b", 0), Item(4, "a", 0)])
    [window] = partition.fired
    assert (window.id, window.reason, window.members) == ("t/p/a/1", "count", (1, 2, 4))
    assert (window.start, window.end) == (None, None)


def test_windows_of_one_item_close_with_it() -> None:
    partition = PlannedPartition(type="count", count=1)
    partition.give(0, 0)
    assert [window.id for window in partition.fired] == ["t/p/a/1", "t/p/a/2"]
    assert not partition.open


def test_one_batch_may_fill_many_windows_of_a_key() -> None:
    partition = PlannedPartition(type="count", count=2)
    partition.take([Item(n, "a", 0) for n in range(1, 8)])
    assert [window.members for window in partition.fired] == [(1, 2), (3, 4), (5, 6)]
    assert list(partition.open) == ["t/p/a/7"]


#   clock   100       130
#           1----------|2      max_wait 30ms, by the store's clock
def test_a_window_that_waited_long_enough_closes_unfilled() -> None:
    partition = PlannedPartition(type="count", count=10, max_wait="30ms")
    partition.give(0, now=100)
    partition.tick(129)
    assert not partition.fired
    partition.tick(130)
    partition.give(0, now=131)
    assert [(w.id, w.reason) for w in partition.fired] == [("t/p/a/1", "time")]
    assert list(partition.open) == ["t/p/a/2"]


def test_an_overdue_window_takes_no_items_even_while_beat_is_away() -> None:
    partition = PlannedPartition(type="count", count=10, max_wait="30ms")
    partition.give(0, now=100)
    partition.give(0, now=200)
    partition.restart()
    partition.give(0, now=210)
    assert set(partition.open) == {"t/p/a/1", "t/p/a/2"}
    partition.tick(300)
    assert [window.members for window in partition.fired] == [(1,), (2, 3)]


def test_a_window_that_beat_closed_is_planned_around() -> None:
    partition = PlannedPartition(type="count", count=10, max_wait="30ms")
    partition.give(0, now=100)
    partition.tick(130)
    partition.give(0, now=120)  # the ingestor's clock is slow
    assert list(partition.open) == ["t/p/a/2"]


def test_a_product_may_close_a_window_behind_an_item() -> None:
    seen: list[WindowStats] = []

    def close_when(stats: WindowStats, item: Any) -> bool:
        seen.append(stats)
        return stats.bytes > 4

    partition = PlannedPartition(type="count", count=10, close_when=close_when)
    partition.take([Item(1, "a", 0, 3), Item(2, "a", 0, 3), Item(3, "a", 0, 1)])
    assert [(w.reason, w.members) for w in partition.fired] == [("condition", (1, 2))]
    assert seen[0] == WindowStats(1, 3, None, None)


def test_a_product_that_fails_to_decide_names_the_message() -> None:
    def close_when(stats: WindowStats, item: Any) -> bool:
        return 1 / (stats.bytes - 3) < 0

    partition = PlannedPartition(type="count", count=10, close_when=close_when)
    items = [Item(1, "a", 0, 5), Item(2, "b", 0, 3), Item(3, "a", 0, 5)]
    with pytest.raises(InvalidItemError, match="close_when: ZeroDivisionError") as caught:
        partition.take(items)
    assert caught.value.stream_seq == 2
    partition.take([item for item in items if item.seq != caught.value.stream_seq])
    partition.close_all("drain")
    assert [window.members for window in partition.fired] == [(1, 3)]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "sliding", "size": "10ms", "slide": "5ms"},
        {"type": "tumbling", "size": "10ms", "time": "event", "late": "update",
         "allowed_lateness": "1ms"},
    ],
)  # fmt: skip
def test_windows_that_need_all_their_items_refuse_a_product_s_trigger(
    spec: dict[str, Any],
) -> None:
    with pytest.raises(ConfigError, match="close_when cannot end sliding windows"):
        PlannedPartition(close_when=lambda stats, item: True, **spec)


def test_a_drain_closes_in_the_order_of_keys() -> None:
    partition = PlannedPartition(type="count", count=10)
    partition.take([Item(1, "b", 0), Item(2, "a", 0)])
    partition.close_all("drain")
    assert [(w.id, w.reason) for w in partition.fired] == [
        ("t/p/a/2", "drain"),
        ("t/p/b/1", "drain"),
    ]
