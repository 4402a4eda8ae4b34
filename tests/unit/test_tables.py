"""Tables fit the terminal, and what can be pasted stays whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest

from sinfer.cli.output import print_table

ID = "rooms/temperatures.basement.north/" + "key-" * 30 + "/1795677507000@1/0"
NAMES = ["WINDOW", "DONE", "COUNT", "REASON", "ERROR"]
ROW = [ID, "2026-01-31T12:00:00.000Z", 20, "time", "the model answers 422: " + "wrong shape " * 20]


def printed(
    capsys: pytest.CaptureFixture[str], names: Sequence[str], *rows: Sequence[object]
) -> list[str]:
    print_table(names, rows)
    return capsys.readouterr().out.splitlines()


def test_a_table_that_fits_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, ["TASK", "OPEN"], ["pumps/a", 7], ["pumps/bc", 12])
    assert lines == ["TASK      OPEN", "pumps/a      7", "pumps/bc    12"]


def test_one_that_does_not_fit_is_stacked_and_ids_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first, *others = printed(capsys, NAMES, ROW)
    assert first == ID
    assert max(map(len, others)) <= 80
    assert others[0] == "  done 2026-01-31T12:00:00.000Z  count 20  reason time"
    assert " ".join(" ".join(others[1:]).split()) == f"error {ROW[-1]}".strip()


def test_an_id_that_is_not_the_first_cell_stays_whole_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = " ".join(printed(capsys, ["SEQ", "WINDOW"], [1, ID])).split(" ")
    assert ID in words


def test_what_is_piped_is_a_line_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = printed(capsys, NAMES, ROW, ROW)
    assert len(lines) == 3
    assert lines[1].startswith(ID)


def test_wide_characters_count_as_wide_and_control_characters_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = printed(capsys, ["KEY", "N"], ["\u6e29\u5ea6", 1], ["a\x1b[31m\n", 2])
    assert lines == ["KEY          N", "\u6e29\u5ea6         1", "a\\x1b[31m\\n  2"]
    assert not re.search(r"\x1b", json.dumps(lines))
