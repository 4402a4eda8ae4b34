"""The log sink."""

from __future__ import annotations

import logging

import pytest

from sinfer.sinks import LogSink
from tests.support.window_results import window_results


async def test_the_first_results_of_a_window_are_logged_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "sinfer"):
        await LogSink(LogSink.Config(limit=2)).write(window_results([1, {"y": "ü"}, 3, 4]))
    assert caplog.messages == [
        "ex_1/in.w1/all/0/0/0 1",
        'ex_1/in.w1/all/0/0/1 {"y":"ü"}',
        "ex_1/in.w1/all/0/0 and 2 more",
    ]


async def test_a_window_below_the_limit_is_logged_whole(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sinfer"):
        await LogSink(LogSink.Config()).write(window_results(2))
    assert len(caplog.messages) == 2
