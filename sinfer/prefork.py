"""Celery's pool of processes, that outlives a child which dies while the broker is away.

When the connection to the broker is made anew, Celery has its event loop watch every child again,
also one that has died and is not replaced yet. It has no file descriptor any more, which kombu
answers with a ``ValueError`` (since 5.7, pull request 2623) that Celery does not expect: the whole
worker ends with "Unrecoverable error: ValueError('file descriptor is None')". Here such children
are left out; the pool replaces them within seconds.
"""

from __future__ import annotations

from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import AsynPool


class Pool(AsynPool):
    """The processes."""

    def _track_child_process(self, proc: Any, hub: Any) -> None:
        is_gone = getattr(proc, "_sentinel_poll", proc) is None
        if not is_gone:
            super()._track_child_process(proc, hub)  # type: ignore[misc]


class TaskPool(prefork.TaskPool):
    """What ``-P prefork``, the default, stands for."""

    Pool = Pool
