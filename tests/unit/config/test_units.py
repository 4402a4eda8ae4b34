"""Durations and secrets in configurations: many ways to write them, one meaning, no surprises."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from sinfer.config.secret import Secret
from sinfer.config.units import Bytes, Duration, format_duration, parse_duration, to_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("1m30s", 90_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        (" 1 m ", 60_000),
        ("7", 7_000),
        (7, 7_000),
        (0.25, 250),
        (timedelta(seconds=3), 3_000),
        ("0s", 0),
    ],
)
def test_what_a_duration_means(text: Any, ms: int) -> None:
    assert to_ms(parse_duration(text)) == ms


@pytest.mark.parametrize(
    "value",
    ["", "  ", "soon", "5 parsecs", "-5s", "5s-", "1e3s", "5ss", "inf", "nan", "s", -1, 1e300,
     float("nan"), float("inf"), True, None, [5], timedelta(seconds=-1)],
)  # fmt: skip
def test_what_is_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_is_read_back_as_it_was_written(ms: int) -> None:
    duration = timedelta(milliseconds=ms)
    assert parse_duration(format_duration(duration)) == duration


class Part(BaseModel):
    wait: Duration = timedelta(seconds=90)
    size: Bytes = Bytes(0)
    token: Secret | None = None


def test_a_duration_is_written_as_people_write_it() -> None:
    assert json.loads(Part().model_dump_json())["wait"] == "90s"


def test_sizes_have_units() -> None:
    assert Part.model_validate({"size": "1MiB"}).size == 1024 * 1024


def test_a_secret_comes_from_the_environment_and_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODEL_TOKEN", "hunter2")
    part = Part.model_validate({"token": "Bearer ${MODEL_TOKEN}"})
    assert part.token is not None
    assert part.token.get_secret_value() == "Bearer hunter2"
    assert "hunter2" not in f"{part!r} {part} {part.model_dump_json()}"


def test_a_secret_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODEL_TOKEN", raising=False)
    with pytest.raises(ValidationError, match="environment variable MODEL_TOKEN is not set"):
        Part.model_validate({"token": "${MODEL_TOKEN}"})


@pytest.mark.parametrize(
    ("text", "size"),
    [(5, 5), ("5", 5), ("1 kB", 1000), ("64KiB", 65536), ("1.5MiB", 1572864), ("2G", 2 * 10**9)],
)
def test_sizes_are_read_as_they_are_written(text: object, size: int) -> None:
    assert TypeAdapter(Bytes).validate_python(text) == size


@pytest.mark.parametrize("text", ["1m 30s", "5 parsecs", "5s", "", "64KiB or so", True, -1])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Bytes).validate_python(text)
