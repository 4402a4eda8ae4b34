"""Logs are followed line by line; banners and ticks are left out, tracebacks are not."""

from __future__ import annotations

from pathlib import Path

from sinfer.embedded.log_lines import LogLines

STAMP = "2026-01-31T12:00:00.000Z"


def test_lines_come_whole_and_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = LogLines(path)
    assert lines.new() == []
    path.write_text(f"{STAMP} INFO one\n{STAMP} INFO t")
    assert lines.new() == [f"{STAMP} INFO one"]
    with path.open("a") as file:
        file.write("wo\n")
    assert lines.new() == [f"{STAMP} INFO two"]
    assert lines.new() == []


def test_banners_and_ticks_are_left_out_and_tracebacks_are_not(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        f" --- celery@host ---\n[tasks]\n{STAMP} INFO celery.apps.worker: ready.\n"
        f"{STAMP} INFO celery.beat: beat: Scheduler: Sending due task tick (sinfer.tick)\n"
        f"{STAMP} INFO x: Task sinfer.tick[1] received\n"
        f"{STAMP} ERROR sinfer: it failed\nTraceback (most recent call last):\n  ValueError\n"
    )
    assert LogLines(path).new() == [
        f"{STAMP} INFO celery.apps.worker: ready.",
        f"{STAMP} ERROR sinfer: it failed",
        "Traceback (most recent call last):",
        "  ValueError",
    ]


def test_the_last_words_of_a_process_that_never_began_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("Error: no such product\n\n")
    lines = LogLines(path)
    assert lines.new() == []
    assert lines.held_back() == ["Error: no such product"]
    path.write_text("")
    lines.begin()
    path.write_text(f"{STAMP} INFO again\n")
    assert lines.new() == [f"{STAMP} INFO again"]
