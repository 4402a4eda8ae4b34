"""Names never collide, whatever texts they are made of, and can be read back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope, count_window_id, escape, time_window_id, unescape
from sinfer.windows.records import WindowRecord, base_id

any_text = st.one_of(
    st.text(st.characters(codec=None), max_size=8),  # lone surrogates too
    st.text("/%{}@~:\n\r \0a1", max_size=8),
)
scopes = st.builds(Scope, any_text, any_text, any_text)


@given(any_text)
def test_components_are_read_back(text: str) -> None:
    assert unescape(escape(text)) == text


@given(any_text)
def test_components_hold_nothing_that_means_something(text: str) -> None:
    assert not set(escape(text)) & set("/{}% \n\r\0") - {"%"}
    assert escape(text).isascii()


@given(scopes)
def test_scopes_are_read_back(scope: Scope) -> None:
    assert Scope.parse(str(scope)) == scope


@given(scopes, scopes)
def test_different_scopes_have_different_keys(one: Scope, other: Scope) -> None:
    if one != other:
        assert PartitionKeys(one).meta != PartitionKeys(other).meta


@given(scopes)
def test_all_keys_of_a_partition_are_in_one_slot(scope: Scope) -> None:
    keys = PartitionKeys(scope)
    names = [keys.meta, keys.segment("t/p/}{/1"), keys.output("}{"), keys.given_up("x")]
    tags = {name[name.index("{") + 1 : name.index("}")] for name in names}
    assert tags == {str(scope)}


windows = st.tuples(
    st.builds(
        lambda task, partition: Scope("p", task, partition).window_prefix, any_text, any_text
    ),
    any_text,
    st.integers(-(2**53), 2**53),
    st.none() | st.integers(0, 2**53),
)


@given(windows, windows)
def test_different_windows_have_different_ids(
    one: tuple[str, str, int, int | None], other: tuple[str, str, int, int | None]
) -> None:
    if one != other:
        assert time_window_id(*one) != time_window_id(*other)


@given(st.tuples(any_text, any_text, st.integers(0, 2**53)), windows)
def test_different_count_windows_have_different_ids_and_none_that_of_a_time_window(
    one: tuple[str, str, int], other: tuple[str, str, int, int | None]
) -> None:
    prefix, key, start, first_seq = other
    name = Scope("p", one[0], "in.a").window_prefix, one[1], one[2]
    another = prefix, key, start if first_seq is None else first_seq
    if name != another:
        assert count_window_id(*name) != count_window_id(*another)
    for window in (name, another):
        assert count_window_id(*window) != f"{time_window_id(*other)}/0"


@given(windows, st.integers(0, 99))
def test_the_base_id_is_the_id_without_its_revision(
    window: tuple[str, str, int, int | None], revision: int
) -> None:
    record = WindowRecord(window[1], 0, 1, 1, 1, revision=revision)
    base = time_window_id(*window)
    assert base_id(f"{base}/{revision}", record) == base
    count = count_window_id(window[0], window[1], 7)
    assert base_id(count, record) == count
