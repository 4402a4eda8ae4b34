"""soe, end to end: set-points that are fed back pay, and every window has exactly one answer."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sinfer.embedded.services import program
from sinfer.products.soe.demo_results import expected_windows

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SECONDS = 150
READINGS_A_SECOND = 15
PATIENCE_S = 120.0


def test_feedback_improves_the_objective_and_each_window_has_one_answer(tmp_path: Path) -> None:
    messages = str(SECONDS * READINGS_A_SECOND)
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir(mode=0o555)
    temporary.mkdir()
    run = subprocess.run(
        [program("sinfer"), "demo", "--product", "soe", "--messages", messages, "--json"],
        cwd=here,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads(run.stdout)
    assert report["ok"] is True
    assert report["results"] == 3 * len(expected_windows(0, SECONDS))
    assert report["profit_with"] > report["profit_without"]
    assert report["statuses"]["infeasible"] > 0
    assert 0 < report["setpoints_sent"] < report["statuses"]["converged"]
    assert list(here.iterdir()) == []
    [plot] = temporary.iterdir()
    assert report["plot"] == str(plot)
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_make_demo_takes_the_name_of_a_product() -> None:
    for arguments, command in (([], "sinfer demo"), (["PRODUCT=soe"], "sinfer demo --product soe")):
        told = subprocess.run(
            ["make", "--no-print-directory", "--dry-run", "demo", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.splitlines()[-1].strip().endswith(command)
