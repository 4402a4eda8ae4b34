"""Celery's pool of processes, that outlives a child which dies while the broker is away.

When the connection to the broker is made anew, Celery has its event loop watch every child again,
also one that has died and is not replaced yet. It has no file descriptor any more, which kombu
answers with a ``ValueError`` (since 5.7, pull request 2623) that Celery does not expect: the whole
worker ends with "Unrecoverable error: ValueError('file descriptor is None')". Here such children
are left out; the pool replaces them within seconds.

Celery gives a message to the first child that is idle. Messages of sinfer only begin work, so that
one child would get them all: here the child with the fewest windows under way gets the next one.
"""

from __future__ import annotations

import random
from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool

from sinfer.worker_memory import load_of


class Pool(AsynPool):
    """The processes."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        is_gone = getattr(proc, "_sentinel_poll", proc) is None
        if not is_gone:
            super()._track_child_process(proc, hub)  # type: ignore[misc]

    def _create_write_handlers(self, hub: Any, *args: Any, **options: Any) -> None:
        super()._create_write_handlers(hub, *args, **options)  # type: ignore[misc]
        schedule_writes = hub.consolidate_callback

        def to_the_least_busy(ready_fds: list[int]) -> None:
            schedule_writes(sorted(ready_fds, key=self._load))

        hub.consolidate_callback = to_the_least_busy

    def _load(self, fd: int) -> tuple[int, float]:
        """Windows under way in the child that reads from there; chance decides among equals."""
        child = self._fileno_to_inq.get(fd)  # type: ignore[attr-defined]
        return (0 if child is None else load_of(child.index), random.random())


class TaskPool(prefork.TaskPool):
    """What ``-P prefork``, the default, stands for."""

    Pool = Pool
