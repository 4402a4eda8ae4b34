"""Hints are few, stand for all windows, and never make anyone wait."""

from __future__ import annotations

import logging

import pytest
from celery import Celery

from sinfer.embedded.process import free_port
from sinfer.hints import MOST_HINTS, WINDOWS_PER_HINT, HintSender, split_hint
from sinfer.windows.ids import Scope


@pytest.mark.parametrize("windows", [1, 2, 15, 16, 17, 100, 128, 129, 1000, 12_345])
def test_a_hint_stands_for_all_windows_in_few_messages_of_like_size(windows: int) -> None:
    parts = split_hint(windows)
    assert sum(parts) == windows
    assert len(parts) <= MOST_HINTS
    assert min(parts) >= 1
    assert max(parts) - min(parts) <= 1
    assert len(parts) == MOST_HINTS or max(parts) <= WINDOWS_PER_HINT


def test_one_window_is_one_message() -> None:
    assert split_hint(1) == [1]


def test_a_broker_that_is_away_is_told_once_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0")
    app.conf.broker_transport_options = {"max_retries": 0, "socket_connect_timeout": 1}
    hints = HintSender(app)
    with caplog.at_level(logging.WARNING, "sinfer.hints"):
        for place in range(3):
            hints.send(Scope("p", "t", str(place)), 1)
        hints.close(timeout_s=30)
    told = [record for record in caplog.records if "takes no messages" in record.getMessage()]
    assert len(told) == 1
    assert told[0].exc_info is None
