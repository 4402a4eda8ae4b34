"""What items must have to enter a window, and which of the same identity stay in one."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.errors import InvalidItemError
from sinfer.windows.deduplication import kept_places
from sinfer.windows.event_time import checked_event_time_ms
from sinfer.windows.item_key import checked_key

NOW_MS = 1_700_000_000_000
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [
        (0, 0),
        (-0.0005, -1),
        (-1.5, -1500),
        (1.001, 1001),  # as a float a little less than that
        (9.9999, 9999),
        (1_700_000_000.25, 1_700_000_000_250),
        (-62_135_596_800, -62_135_596_800_000),  # the year 1
    ],
)
def test_seconds_become_the_milliseconds_that_have_passed(seconds: float, ms: int) -> None:
    assert checked_event_time_ms(seconds, NOW_MS, HOUR) == ms


@given(st.integers(-(10**12), NOW_MS))
def test_whole_milliseconds_stay_what_they_are(ms: int) -> None:
    assert checked_event_time_ms(ms / 1000, NOW_MS, HOUR) == ms


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (math.nan, "not finite"),
        (math.inf, "not finite"),
        (-math.inf, "not finite"),
        (1_700_000_000_000, "is it in seconds"),
        (-1e300, "out of range"),
        pytest.param(10**5000, "out of range", id="huge"),
        ("1.5", "is str, not a number"),
        (True, "is bool, not a number"),
        (None, "is NoneType, not a number"),
        (NOW_MS / 1000 + 3601, "3601s ahead of the clock"),
    ],
)
def test_a_time_that_cannot_be_right_is_refused_with_the_reason(
    seconds: object, reason: str
) -> None:
    with pytest.raises(InvalidItemError, match=reason):
        checked_event_time_ms(seconds, NOW_MS, HOUR)


def test_max_future_itself_is_allowed() -> None:
    assert checked_event_time_ms(NOW_MS / 1000 + 3600, NOW_MS, HOUR) == NOW_MS + 3_600_000


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (5, "returned int, not str"),
        (None, "returned NoneType"),
        ("x" * 9, "9 characters is above limits.max_key_length"),
        ("a\ud800", "surrogate"),
    ],
)
def test_a_key_that_cannot_be_stored_is_refused_with_the_reason(key: object, reason: str) -> None:
    with pytest.raises(InvalidItemError, match=reason):
        checked_key(key, 8)


@pytest.mark.parametrize("key", ["", "ключ", "a/b {c} %2F\n", "\U0001f600"])
def test_any_other_text_is_a_key(key: str) -> None:
    assert checked_key(key, 12) == key


def test_the_first_of_an_identity_stays_where_it_was() -> None:
    assert kept_places(["a", "b", "a", "c", "b"], "first") == [0, 1, 3]


def test_the_last_of_an_identity_stays_where_it_was() -> None:
    assert kept_places(["a", "b", "a", "c", "b"], "last") == [2, 3, 4]


@given(st.lists(st.integers(0, 5)), st.sampled_from(["first", "last"]))
def test_each_identity_stays_once(ids: list[int], keep: str) -> None:
    places = kept_places(ids, "first" if keep == "first" else "last")
    assert places == sorted(places)
    kept = [ids[place] for place in places]
    assert len(kept) == len(set(kept)) == len(set(ids))
    chosen = ids if keep == "first" else ids[::-1]
    for place in places:
        distance = chosen.index(ids[place])
        assert place == (distance if keep == "first" else len(ids) - 1 - distance)
