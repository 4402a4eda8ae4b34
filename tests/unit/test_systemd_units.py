"""The systemd units start what the README starts, and give each process the time that it needs."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from sinfer.embedded.services import program

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
COMMANDS = {
    "sinfer-ingest@.service": "sinfer ingest --product %i",
    "sinfer-worker.service": "celery -A sinfer.tasks worker",
    "sinfer-beat.service": "celery -A beat_schedule beat",
    "sinfer-flower.service": "celery -A sinfer.tasks flower",
}


def read(path: Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


def test_each_process_has_a_unit() -> None:
    assert {path.name for path in UNITS} == COMMANDS.keys()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_its_process_again_whatever_ends_it(path: Path) -> None:
    service = read(path)["Service"]
    executable, *arguments = shlex.split(service["ExecStart"])
    command = [Path(executable).name, *arguments]
    expected = shlex.split(COMMANDS[path.name])
    assert command[: len(expected)] == expected
    assert Path(program(command[0])).exists()
    assert executable == f"/opt/sinfer/bin/{command[0]}"
    assert service["Restart"] == "always"
    assert service["EnvironmentFile"] == "/etc/sinfer/sinfer.env"
    assert service["User"] == "sinfer"


def test_workers_and_ingestors_are_not_killed_before_they_have_handed_back() -> None:
    for name in ("sinfer-ingest@.service", "sinfer-worker.service"):
        service = read(FOLDER / name)["Service"]
        assert service["KillMode"] == "mixed"
        assert int(service["TimeoutStopSec"]) >= 25
