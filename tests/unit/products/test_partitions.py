"""Partitions of one task share no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sinfer.source.config import JetStreamSource

TOKENS = st.sampled_from(["a", "b", "*", ">"])
SUBJECTS = [f"{one}.{two}" for one in "abc" for two in "abc"] + list("abc")
PATTERNS = st.lists(TOKENS, min_size=1, max_size=2).filter(lambda tokens: ">" not in tokens[:-1])


def matches(pattern: str, subject: str) -> bool:
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(
            w in ("*", t) for w, t in zip(wanted[:-1], tokens, strict=False)
        )
    return len(tokens) == len(wanted) and all(
        w in ("*", t) for w, t in zip(wanted, tokens, strict=True)
    )


@given(st.lists(PATTERNS.map(".".join), min_size=1, max_size=4))
def test_partitions_are_refused_if_and_only_if_a_subject_is_in_two(partitions: list[str]) -> None:
    twice = [s for s in SUBJECTS if sum(matches(p, s) for p in partitions) > 1]
    try:
        JetStreamSource(stream="S", partitions=partitions)
    except ValidationError:
        assert twice
    else:
        assert not twice


@pytest.mark.parametrize(
    ("partitions", "told"),
    [
        (["ov.*", "ov.a"], "'ov.*' and 'ov.a' overlap"),
        (["ov.a", "x", "ov.*"], "'ov.*' and 'ov.a' overlap"),
        (["a.>", "a.b.*"], "'a.>' and 'a.b.*' overlap"),
        (["a.*", "*.b"], "'a.*' and '*.b' overlap"),
        (["a", ">"], "'>' and 'a' overlap"),
        (["a", "b", "a"], "'a' twice"),
        (["a.>", "a.>"], "'a.>' twice"),
    ],
)
def test_the_error_names_both(partitions: list[str], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        JetStreamSource(stream="S", partitions=partitions)
    assert told in str(error.value)


def test_many_plain_partitions_are_looked_at_quickly_and_all() -> None:
    partitions = [f"in.{number}" for number in range(20_000)]
    assert JetStreamSource(stream="S", partitions=partitions).partition_subjects == partitions
    with pytest.raises(ValidationError, match=r"'in\.\*' and 'in\.0' overlap"):
        JetStreamSource(stream="S", partitions=[*partitions, "in.*"])
