"""Names that are shortened."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinfer.sinks.name_length import SHORTEST, fitted


def test_a_name_that_fits_stays_as_it_is() -> None:
    assert fitted("a" * 100, 100) == "a" * 100


@given(st.text(min_size=200), st.text(), st.text(), st.integers(SHORTEST, 150))
def test_longer_ones_fit_and_stay_apart(start: str, one: str, other: str, length: int) -> None:
    short = fitted(start + one, length)
    assert len(short) == length
    assert (short == fitted(start + other, length)) == (one == other)


def test_no_short_name_equals_a_shortened_one() -> None:
    long = "x" * 500
    assert fitted(fitted(long, 100), 100) != fitted(long + "y", 100)
