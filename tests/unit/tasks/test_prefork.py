"""The pool of processes: children that died meanwhile do not end the worker."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.connection import Pipe
from billiard.pool import ACK, READY, WorkersJoined
from celery.concurrency import asynpool
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

from sinfer.tasks.application import make_app
from sinfer.tasks.prefork import Pool, Results, TaskPool


def test_the_default_pool_of_workers_is_ours() -> None:
    assert make_app([]).conf.worker_pool == f"{TaskPool.__module__}:{TaskPool.__name__}"
    assert TaskPool.Pool is Pool


def test_a_child_that_has_died_is_not_watched_again() -> None:
    pool: Any = object.__new__(Pool)
    hub = Hub()
    reader, writer = os.pipe()
    try:
        child = SimpleNamespace(_popen=SimpleNamespace(sentinel=reader))
        pool._track_child_process(child, hub)
        watched = child._sentinel_poll
        assert watched in hub.readers
        pool._track_child_process(child, hub)  # as after a reconnect
        pool._untrack_child_process(child, hub)
        assert child._sentinel_poll is None
        pool._track_child_process(child, hub)
        assert watched not in hub.readers
    finally:
        hub.close()
        os.close(reader)
        os.close(writer)


def test_celery_itself_still_stumbles_over_it() -> None:
    """When this fails, Celery has mended it: let go of our pool."""
    pool: Any = object.__new__(AsynPool)
    hub = Hub()
    try:
        with pytest.raises(ValueError, match="file descriptor is None"):
            pool._track_child_process(SimpleNamespace(_sentinel_poll=None), hub)
    finally:
        hub.close()


class Ending:
    """A pool that ends: one child, which has a result in its pipe and is waited for nowhere."""

    def __init__(self, handler: Any) -> None:
        reader, self.writer = Pipe(duplex=False)
        child = SimpleNamespace(pid=os.getpid(), outq=SimpleNamespace(_reader=reader))
        self.counter = SimpleNamespace(value=0, get_lock=nullcontext)
        self.ended = 0
        self.handler = handler(
            None, None, {}, None, self.join_exited, None, SimpleNamespace(R=0), lambda: None, None,
            {child.pid: self.counter},
            fileno_to_outq={reader.fileno(): child}, on_process_alive=None,
        )  # fmt: skip
        self.writer.send((ACK, (1, 0, 0.0, child.pid, None)))
        self.writer.send((READY, (1, 0, (True, None), None)))

    def join_exited(self, shutdown: bool = False) -> None:
        """As the pool's: raises once no child is left."""
        if self.counter.value or self.ended > 100:
            raise WorkersJoined
        self.ended += 1


def test_results_are_read_until_all_children_have_ended() -> None:
    ending = Ending(Results)
    ending.handler.on_stop_not_started()
    assert ending.counter.value == 1


def test_celery_itself_still_leaves_results_unread() -> None:
    """When this fails, Celery has mended it: let go of ``Results``."""
    ending = Ending(asynpool.ResultHandler)
    ending.handler.on_stop_not_started()
    assert ending.counter.value == 0


def test_the_pool_reads_results_with_ours() -> None:
    assert Pool.ResultHandler is Results
    assert issubclass(Results, AsynPool.ResultHandler)
