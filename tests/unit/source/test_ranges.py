"""A set of ranges holds what a plain set holds, in the fewest ranges."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sinfer.source.ranges import RangeSet

NUMBERS = st.integers(min_value=0, max_value=60)
RANGES = st.lists(st.tuples(NUMBERS, st.integers(min_value=-2, max_value=12)))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS, st.integers(min_value=-2, max_value=12)),
        st.tuples(st.just("discard_through"), NUMBERS, st.just(0)),
    )
)


@given(STEPS)
def test_it_holds_what_a_plain_set_holds(steps: list[tuple[str, int, int]]) -> None:
    ranges, plain = RangeSet(), set[int]()
    for step, number, more in steps:
        if step == "add":
            ranges.add(number, number + more)
            plain |= set(range(number, number + more + 1))
        else:
            ranges.discard_through(number)
            plain = {other for other in plain if other > number}
        assert {n for first, last in ranges for n in range(first, last + 1)} == plain
        assert {n for n in range(80) if n in ranges} == plain
        assert ranges.maximum == max(plain, default=None)


@given(RANGES)
def test_ranges_are_sorted_and_never_touch(pairs: list[tuple[int, int]]) -> None:
    ranges = list(RangeSet((first, first + more) for first, more in pairs))
    assert all(first <= last for first, last in ranges)
    assert all(last + 1 < following for (_, last), (following, _) in itertools.pairwise(ranges))


@given(RANGES)
def test_the_order_of_adding_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    forth = RangeSet((first, first + more) for first, more in pairs)
    back = RangeSet((first, first + more) for first, more in reversed(pairs))
    assert list(forth) == list(back)
    assert len(forth) == len(list(forth))
    assert forth.first == next(iter(forth), None)
