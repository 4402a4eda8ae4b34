"""Stored messages are read as a consumer would have delivered them."""

from __future__ import annotations

import pytest

from sinfer.nats.stream_messages import parse_time_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-01-31T12:00:00.123456789Z", 1_769_860_800_123_456_789),
    ],
)
def test_times_are_exact_to_the_nanosecond(text: str, ns: int) -> None:
    assert parse_time_ns(text) == ns
