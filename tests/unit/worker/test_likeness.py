"""Which reasons of refusals are alike."""

from __future__ import annotations

import pytest

from sinfer.worker.likeness import likeness

CALL = "POST http://h:8000/v2/models/m/infer: "


@pytest.mark.parametrize(
    ("stage", "one", "other"),
    [
        ("inference", CALL + "400 Bad Request: row 5", CALL + "400 Bad Request: row 17"),
        ("inference", CALL + '400 Bad Request: {"error": "a"}', CALL + '400 Bad Request: {"b": 1}'),
        ("results", "build_results: KeyError: 'a'", "build_results: KeyError: 'b c'"),
        ("results", "build_results: ValueError: item a", "build_results: ValueError: pump 7 b"),
        ("sink", "column 'x' of row 0af37c9e81 is null", "column 'x' of row 77f37c9e82 is null"),
    ],
)
def test_numbers_ids_and_quoted_values_make_no_difference(stage: str, one: str, other: str) -> None:
    assert likeness(stage, one) == likeness(stage, other)


@pytest.mark.parametrize(
    ("stage", "one", "other"),
    [
        ("inference", CALL + "400 Bad Request: a", CALL + "422 Unprocessable Entity: a"),
        ("inference", CALL + "400 Bad", CALL + "413 Bad"),
        ("results", "build_results: KeyError: 'a'", "build_results: TypeError: 'a'"),
        ("sink", "value too long", "value out of range"),
    ],
)
def test_other_reasons_are_not_alike(stage: str, one: str, other: str) -> None:
    assert likeness(stage, one) != likeness(stage, other)
