"""``make trips`` follows a message and a window through the code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.integration
def test_both_trips_are_followed_from_end_to_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.trips", "--json"],
        text=True, capture_output=True, check=True, cwd=ROOT,
    )  # fmt: skip
    found = json.loads(done.stdout)
    files = {name: {file for file, _ in trip["steps"]} for name, trip in found.items()}
    assert "sinfer/store/partition/writer.py" in files["message, pull to ack"]
    assert "sinfer/source/acks.py" in files["message, pull to ack"]
    assert "sinfer/store/work/claims.py" in files["window, hint to complete"]
    assert "sinfer/worker/process.py" in files["window, hint to complete"]
