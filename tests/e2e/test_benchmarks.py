"""The benchmarks run, and their systems give every message exactly one correct result."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.e2e
def test_each_system_gives_exactly_one_result_for_each_message() -> None:
    finished = subprocess.run(
        [
            sys.executable, "-m", "benchmarks", "--messages", "500", "--rounds", "1", "--json",
            "--only", "bare", "--only", "sinfer-prefork-1",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["ok"]
    assert set(report["systems"]) == {"bare", "sinfer-prefork-1"}
    for system in report["systems"].values():
        assert system["messages"] == 500
        assert system["messages_per_second"] > 0
    assert [target["name"] for target in report["targets"]] == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 2
    assert "sinfer-prefork-2" in finished.stderr
