"""Whatever ends a process, its guardian leaves neither its children nor its directory behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sinfer.embedded.child_process import ChildProcess
from sinfer.embedded.guardian import Guardian
from tests.support.until import until_true

# A parent whose child has a child of its own; it prints their ids and waits.
PARENT = """
import sys, time
from pathlib import Path
from sinfer.embedded.guardian import Guardian
from sinfer.embedded.child_process import ChildProcess

directory = Path(sys.argv[1])
guardian = Guardian(directory)
script = "sleep 600 & echo $! > grandchild; wait"
child = ChildProcess("child", ["sh", "-c", script], log=directory / "log", cwd=directory)
child.start()
guardian.watch(child.pid)
while not (directory / "grandchild").exists() or not (directory / "grandchild").read_text():
    time.sleep(0.01)
print(child.pid, (directory / "grandchild").read_text().strip(), flush=True)
time.sleep(600)
"""


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_parent_that_a_signal_ends(tmp_path: Path, number: int) -> None:
    directory = tmp_path / "place"
    directory.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.send_signal(number)
        parent.wait(10)
    until_true(lambda: all(is_gone(pid) for pid in pids) and not directory.exists())


def test_dismissal_kills_what_is_left_and_removes_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "place"
    directory.mkdir()
    guardian = Guardian(directory)
    child = ChildProcess("child", ["sleep", "600"], log=directory / "log")
    child.start()
    guardian.watch(child.pid)
    guardian.dismiss()
    assert child.wait(10) == -signal.SIGKILL
    assert not directory.exists()


def test_a_process_group_that_ended_is_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "place"
    directory.mkdir()
    guardian = Guardian(directory)
    child = ChildProcess("child", ["sleep", "600"], log=tmp_path / "log")
    child.start()
    guardian.watch(child.pid)
    guardian.forget(child.pid)
    guardian.dismiss()
    assert child.is_running
    child.kill()
