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


@pytest.mark.e2e
def test_each_scenario_has_its_numbers_and_says_which_targets_are_reached() -> None:
    systems = ["bare-keyed-packed", "sinfer-keyed-shared", "sinfer-slow-model-1"]
    only = [word for name in (*systems, "latency", "closing-commit") for word in ("--only", name)]
    finished = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, finished.stderr
    report = json.loads(finished.stdout)
    assert report["scenarios"] == {
        "keyed": ["bare-keyed-packed", "sinfer-keyed-shared"],
        "latency": ["bare-latency", "sinfer-latency"],
        "slow-model": ["sinfer-slow-model-1"],
    }
    assert [target["name"] for target in report["targets"]] == [
        "sinfer-keyed-shared / bare-keyed-packed",
        "sinfer-latency / bare-latency: p99",
        "sinfer-latency: p50, ms",
        "sinfer-slow-model-1: calls in flight",
        "ms in Redis for a commit that closes 500 windows",
    ]
    for target in report["targets"]:
        assert target["value"] > 0
    for name in ("bare-latency", "sinfer-latency"):
        [median_ms], [most_ms] = (report["systems"][name][key] for key in ("p50_ms", "p99_ms"))
        assert 0 < median_ms <= most_ms


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
