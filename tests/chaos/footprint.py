"""Memory and open files of sinfer's processes, to tell a leak from use."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from sinfer.embedded.services import Service

_MORE_MIB = 60
"""What a process may have more than when it was young: caches that have filled."""

_MORE_FILES = 80
"""Likewise: its pool of up to 64 connections to Redis, and what a child inherits that a worker
forked when it was connected already."""


@dataclass(frozen=True)
class Footprint:
    """What one process holds.

    Attributes:
        age: when it started, seconds since the epoch; tells a process from its successor.
        mib: memory of its own.
        files: open files, sockets included.
    """

    age: float
    mib: float
    files: int


def footprints(services: Iterable[Service]) -> dict[tuple[str, int], Footprint]:
    """All processes of the services, by service and process id."""
    found: dict[tuple[str, int], Footprint] = {}
    for service in services:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(service.process.pid)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess), process.oneshot():
                    mib = process.memory_full_info().uss / 2**20
                    key = (service.name, process.pid)
                    found[key] = Footprint(process.create_time(), mib, process.num_fds())
    return found


def leaks(
    before: dict[tuple[str, int], Footprint], after: dict[tuple[str, int], Footprint]
) -> list[str]:
    """Which processes grew more than pools and caches explain.

    A process that was restarted in between is compared with the largest of its kind before.
    """
    largest: dict[str, tuple[float, int]] = {}
    for (name, _), was in before.items():
        mib, files = largest.get(_kind(name), (0.0, 0))
        largest[_kind(name)] = max(mib, was.mib), max(files, was.files)
    found = []
    for (name, pid), is_now in after.items():
        mib, files = largest[_kind(name)]
        if is_now.mib > mib + _MORE_MIB:
            found.append(f"{name} ({pid}) has {is_now.mib:.0f} MiB, at first {mib:.0f}")
        if is_now.files > files + _MORE_FILES:
            found.append(f"{name} ({pid}) has {is_now.files} files open, at first {files}")
    return found


def _kind(name: str) -> str:
    return name.rstrip("0123456789")
