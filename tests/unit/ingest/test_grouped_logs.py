"""Many partitions that say the same make few lines; one makes a line of its own at once."""

from __future__ import annotations

import logging

import pytest

from sinfer.ingest.grouped_logs import Announcements
from sinfer.windows.ids import Scope


async def test_the_first_few_are_told_at_once_and_the_others_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    announcements = Announcements()
    for number in range(1000):
        announcements.say(Scope("p", f"t{number}", "s"), "ingesting")
    announcements.say(Scope("p", "x", "s"), "waits")
    announcements.tell()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "p/t0/s: ingesting"
    assert "p/x/s: waits" in lines
    assert lines[-1] == "995 more partitions, such as p/t5/s: ingesting"
    assert len(lines) == 7
