"""``make trips`` follows a message and a window through the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.trips import GOALS

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.long, pytest.mark.integration]

WINDOW = "window, hint to complete"


def followed() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tools.trips", "--json"],
        text=True, capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def trips() -> dict[str, Any]:
    """The shortest of three: what else runs in the process at the moment is counted as well."""
    runs = [followed() for _ in range(3)]
    return {name: min((r[name] for r in runs), key=lambda t: len(t["steps"])) for name in runs[0]}


def test_both_trips_are_followed_from_end_to_end(trips: dict[str, Any]) -> None:
    files = {name: {file for file, _ in trip["steps"]} for name, trip in trips.items()}
    assert "sinfer/store/partition/writer.py" in files["message, pull to ack"]
    assert "sinfer/source/acks.py" in files["message, pull to ack"]
    assert "sinfer/store/work/claims.py" in files[WINDOW]
    assert "sinfer/worker/process.py" in files[WINDOW]


@pytest.mark.parametrize("name", GOALS)
def test_a_trip_is_over_after_few_entries_into_few_files(trips: dict[str, Any], name: str) -> None:
    files, entries = GOALS[name]
    steps = trips[name]["steps"]
    assert trips[name]["files"] <= files, sorted({file for file, _ in steps})
    assert len(steps) <= entries, steps
