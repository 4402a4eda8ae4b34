"""The ledger keeps the members of a window exactly, in few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.store.history.ledger import LedgerEntry
from sinfer.store.work.contents import pack_members, unpack_members


@given(st.sets(st.integers(1, 1 << 40)).map(sorted))
def test_members_are_read_back_as_they_were(sequences: list[int]) -> None:
    assert list(unpack_members(pack_members(sequences))) == sequences


@pytest.mark.parametrize(
    ("sequences", "packed"),
    [([], []), ([5], [5, 0]), ([7, 8, 9, 12], [7, 2, 2, 0]), (list(range(1, 1001)), [1, 999])],
)
def test_an_unbroken_window_takes_two_numbers(sequences: list[int], packed: list[int]) -> None:
    assert pack_members(sequences) == packed


@given(st.sets(st.integers(1, 1000), min_size=1).map(sorted))
def test_the_bounds_are_those_of_the_members(sequences: list[int]) -> None:
    entry = LedgerEntry(
        "w", "k", None, None, "count", 0, pack_members(sequences), len(sequences),
        0, 0, 0, 0, 0, 1, 0,
    )  # fmt: skip
    assert (entry.first_seq, entry.last_seq) == (sequences[0], sequences[-1])
