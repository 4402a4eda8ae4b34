"""CPU time that processes have used: less disturbed by a busy machine than the clock is."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

from sinfer.embedded.child_process import ChildProcess


def cpu_seconds(processes: Mapping[str, ChildProcess]) -> dict[str, float]:
    """CPU seconds of each process and its children so far, by the given names."""
    used = {}
    for name, process in processes.items():
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        used[name] = sum(sum(member.cpu_times()[:2]) for member in family)
    return used
