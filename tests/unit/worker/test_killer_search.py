"""The search for items that end their worker: who is blamed, and after how many deaths."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.worker.killer_search import KillerSearch, most_deaths, pack_search, unpack_search


def searched(
    items: int, killers: set[int], chance: frozenset[int] = frozenset()
) -> tuple[KillerSearch, int, Counter[int], list[int]]:
    """Play a search to its end.

    Args:
        items: in the window.
        killers: places of those that end their worker, whenever they are tried.
        chance: deaths by number that happen whatever is tried.

    Returns:
        The search, the deaths, how often each item came through, and the items given up.
    """
    deaths, done = 2, Counter[int]()
    search = KillerSearch.begin("inference", range(items), deaths)
    while True:
        search = unpack_search(pack_search(search))
        search.note_death(deaths)
        if deaths > most_deaths(items):
            return search, deaths, done, search.give_up()
        while group := search.next_group(deaths):
            stored = pack_search(search)
            if killers.intersection(group) or deaths in chance:
                deaths += 1
                search = unpack_search(stored)
                break
            done.update(group)
        else:
            return search, deaths, done, []


def test_one_of_forty_is_found_and_the_others_come_through_once() -> None:
    for killer in range(40):
        search, deaths, done, given_up = searched(40, {killer})
        assert search.blamed == [killer]
        assert done == Counter(set(range(40)) - {killer})
        assert given_up == []
        assert deaths <= 2 + 6 + 2 - 1


@given(
    items=st.integers(1, 200),
    killers=st.sets(st.integers(0, 199), max_size=3),
    chance=st.frozensets(st.integers(2, 8), max_size=1),
)
def test_up_to_three_are_found_and_a_death_by_chance_blames_nobody(
    items: int, killers: set[int], chance: frozenset[int]
) -> None:
    killers = {place % items for place in killers}
    if len(killers) == 3 or items == 1:  # a single item was there in each death
        chance = frozenset()
    search, deaths, done, given_up = searched(items, killers, chance)
    assert set(search.blamed) == killers
    assert done == Counter(set(range(items)) - killers)
    assert given_up == []
    assert deaths <= most_deaths(items)


@pytest.mark.parametrize("items", [1, 2, 40, 500])
def test_where_every_item_kills_the_search_ends(items: int) -> None:
    search, deaths, done, given_up = searched(items, set(range(items)))
    assert deaths <= most_deaths(items) + 1
    assert done == Counter()
    assert sorted([*search.blamed, *given_up]) == list(range(items))


def test_an_attempt_that_ended_in_another_way_blames_nobody() -> None:
    search = KillerSearch.begin("sink", range(4), 2)
    search.note_death(2)
    assert search.next_group(2) == [0, 1]
    search.note_death(2)  # the model was unavailable, say
    assert search.next_group(2) == [0, 1]
    search.note_death(3)
    assert search.todo == [[0], [1], [2, 3]]
