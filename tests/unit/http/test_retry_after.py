"""What a ``Retry-After`` header asks for."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from sinfer.http.retry_after import LONGEST_ASKED_S, asked_s, retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("nan", None),
        (None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 99 Oct 2015", None),
    ],
)
def test_retry_after_is_read_or_ignored(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_may_be_a_date() -> None:
    seconds = retry_after(formatdate(time.time() + 60, usegmt=True))
    assert seconds is not None
    assert 30 < seconds <= 60


def test_no_server_is_left_alone_for_longer_than_an_hour() -> None:
    assert asked_s(86_400.0) == LONGEST_ASKED_S == 3600.0
    assert asked_s(7.0) == 7.0
    assert asked_s(None) == 0.0
