"""Patterns of subjects, and names made of texts that names cannot hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.nats.subjects import consumer_name, covers, overlap

TOKENS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)
PATTERNS = st.builds(
    lambda tokens, tail: ".".join(tokens + tail), TOKENS, st.sampled_from([[], [">"]])
)
SUBJECTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map(".".join)


def matches(pattern: str, subject: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", r"[^.]+").replace(">", r".+")
    return re.fullmatch(expression, subject) is not None


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_a_pattern_covers_what_all_of_the_others_subjects_match(
    outer: str, inner: str, subject: str
) -> None:
    if covers(outer, inner) and matches(inner, subject):
        assert matches(outer, subject)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_patterns_that_share_a_subject_overlap(one: str, other: str, subject: str) -> None:
    if matches(one, subject) and matches(other, subject):
        assert overlap(one, other)
    assert overlap(one, other) == overlap(other, one)


@given(PATTERNS, SUBJECTS)
def test_for_a_plain_subject_all_of_them_say_the_same(pattern: str, subject: str) -> None:
    assert covers(pattern, subject) == overlap(pattern, subject) == matches(pattern, subject)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (">", "a.b", True), (">", ">", True), ("a.>", "a", False), ("a.>", "a.>", True),
        ("a.*", "a.>", False), ("*.*", "a.*", True), ("a.b", "a.*", False), ("a", "a.b", False),
    ],
)  # fmt: skip
def test_covering(outer: str, inner: str, expected: bool) -> None:
    assert covers(outer, inner) is expected


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_consumer_names_are_valid_and_differ(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,130}", consumer_name(one))
    assert (consumer_name(one) == consumer_name(other)) == (one == other)


def test_a_valid_text_is_its_own_name() -> None:
    assert consumer_name("sinfer", "task_1-a") == "sinfer_task_1-a"
