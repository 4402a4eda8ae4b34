"""Celery's pool of processes, that outlives a dying child, and ends in time.

When the connection to the broker is made again, Celery has its event loop watch every child again,
also one that has died and is not replaced yet. It has no file descriptor any more, which kombu
answers with a ``ValueError`` (since 5.7, pull request 2623) that Celery does not expect: the whole
worker ends with "Unrecoverable error: ValueError('file descriptor is None')". Here such children
are left out; the pool replaces them within seconds.

A worker that is told to end has its children end, and reads what they say meanwhile. Celery reads
only as long as it knows of messages that they have. It forgets those that no child has begun with,
also where a child has one in its pipe (``AsynPool.flush``). Then nobody takes note of the result,
and the child waits 30 s for that (billiard's ``Worker._ensure_messages_consumed``). Here what
children say is read until they have ended, however that comes about, and a child that does not end
is killed. Its windows are taken by others: no worker may keep its host from going down.

Celery gives a message to the first child that is idle. Messages of sinfer only begin work, so that
one child would get them all: here the child with the fewest windows under way gets the next one.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import time
from contextlib import suppress
from typing import Any

from billiard.pool import TERMINATE, WorkersJoined
from celery.concurrency import asynpool, prefork
from celery.concurrency.asynpool import AsynPool

from sinfer.tasks.worker_memory import load_of

_log = logging.getLogger(__name__)

LONGEST_END_S = 20.0
"""How long children may take to end: longer than windows are waited for and connections closed, and
shorter than those who stop a worker usually wait before they kill all of it."""

_POLL_S = 0.05


class Results(asynpool.ResultHandler):
    """What children say."""

    _state: int
    check_timeouts: Any
    fileno_to_outq: Any
    join_exited_workers: Any
    on_state_change: Any
    _flush_outqueue: Any

    def on_stop_not_started(self) -> None:
        """The worker ends: read until all children have ended."""
        gone: set[int] = set()
        until_s = time.monotonic() + LONGEST_END_S
        while self._state != TERMINATE:
            self.check_timeouts()
            try:
                self.join_exited_workers(shutdown=True)
            except WorkersJoined:
                return
            for fd in _readable(set(self.fileno_to_outq) - gone):
                self._flush_outqueue(fd, gone.add, self.fileno_to_outq, self.on_state_change)
            if time.monotonic() > until_s:
                self._kill_all()
                until_s = time.monotonic() + LONGEST_END_S

    def _kill_all(self) -> None:
        for child in set(self.fileno_to_outq.values()):
            _log.error(
                "process %s has not ended within %.0f s and is killed; its windows come back when"
                " their lease is over", child.pid, LONGEST_END_S,
            )  # fmt: skip
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _readable(fds: set[int]) -> list[int]:
    """Which of these can be read now, or within a moment."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, event in poll.poll(_POLL_S * 1000) if not event & select.POLLNVAL]


class Pool(AsynPool):
    """The processes."""

    ResultHandler = Results

    def did_start_ok(self) -> bool:
        """Celery ends the worker when a child is gone before all have started. Here children begin
        to work at once, and one may have died of that: it is replaced, as it is later on."""
        super().did_start_ok()
        return True

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
