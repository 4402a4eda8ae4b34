"""Kills and removes what a process leaves behind that could not do so itself, as after kill -9.

A guardian is a small process that reads a pipe from the one it guards. When the pipe ends, for
whatever reason, it kills the process groups that are still on its list and removes a directory.
This file is also its program, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

_PATIENCE_S = 10.0


class Guardian:
    """Started before the first child; from then on nothing of this process is left behind.

    Args:
        directory: removed, with all that it holds, when the guardian is dismissed or this
            process ends.
    """

    def __init__(self, directory: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).resolve()), str(directory.resolve())],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """Kill this process group if it is still there in the end."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """This process group has ended."""
        self._tell(f"-{group}\n")

    def dismiss(self) -> None:
        """End it now; returns when the processes and the directory are gone."""
        if self._popen.stdin is not None and not self._popen.stdin.closed:
            with suppress(BrokenPipeError):
                self._popen.stdin.close()
        self._popen.wait(_PATIENCE_S + 5)

    def _tell(self, line: str) -> None:
        if self._popen.stdin is None:
            raise RuntimeError("the guardian has no pipe")
        self._popen.stdin.write(line.encode())
        self._popen.stdin.flush()


def _watch_until_the_end() -> set[int]:
    """Read the pipe to its end and return the process groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    return groups


def _kill(groups: set[int]) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _remove(directory: Path) -> None:
    """What dies may still write for a moment."""
    deadline = time.monotonic() + _PATIENCE_S
    while directory.exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(0.02)


def _main(directory: Path) -> None:
    _kill(_watch_until_the_end())
    _remove(directory)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
