"""When a sink is left alone, and who tries it again."""

from __future__ import annotations

import pytest

from sinfer.worker.sink_breaker import SinkBreaker


def after(failures: int, base_ms: int) -> SinkBreaker:
    breaker = SinkBreaker(base_ms, 600_000)
    for _ in range(failures):
        assert breaker.may_write()
        breaker.failed("away")
    return breaker


def test_single_failures_do_not_open_it() -> None:
    breaker = after(2, base_ms=60_000)
    assert breaker.may_write()
    breaker.answered()
    breaker.failed("away")
    breaker.failed("away")
    assert breaker.may_write()


def test_failures_in_a_row_open_it_for_a_while() -> None:
    breaker = after(3, base_ms=60_000)
    assert not breaker.may_write()
    assert 0 < breaker.wait_ms <= 60_000
    assert breaker.error == "away"


def test_writes_from_before_the_pause_do_not_make_it_longer() -> None:
    breaker = after(3, base_ms=60_000)
    for _ in range(100):
        breaker.failed("away")
    assert breaker.wait_ms <= 60_000


def test_a_sink_that_says_for_how_long_is_left_alone_at_once_and_then_tried_by_one() -> None:
    breaker = SinkBreaker(0, 0)
    breaker.failed("busy", 3600.0)
    assert not breaker.may_write()
    assert 3_000_000 < breaker.wait_ms <= 3_600_000
    breaker = SinkBreaker(0, 0)
    breaker.failed("busy", 1e-9)
    assert [breaker.may_write() for _ in range(3)] == [True, False, False]


def test_of_writes_under_way_at_once_the_one_that_asks_for_longest_is_obeyed() -> None:
    breaker = SinkBreaker(0, 0)
    for asked_s in (60.0, 3600.0, 60.0, 0.0):
        breaker.failed("busy", asked_s)
    assert 3_000_000 < breaker.wait_ms <= 3_600_000


@pytest.mark.parametrize("end", ["answered", "failed", "broken_off"])
def test_after_the_pause_one_write_at_a_time_is_tried(end: str) -> None:
    breaker = after(3, base_ms=0)
    assert breaker.may_write()
    assert not breaker.may_write()
    if end == "answered":
        breaker.answered()
        assert breaker.may_write()
        assert breaker.may_write()
    elif end == "failed":
        breaker.failed("still away")
        assert breaker.may_write()
        assert not breaker.may_write()
    else:
        breaker.broken_off()
        assert breaker.may_write()
        assert not breaker.may_write()
