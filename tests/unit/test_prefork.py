"""The pool of processes: children that died meanwhile do not end the worker."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

from sinfer.celery_app import make_app
from sinfer.prefork import Pool, TaskPool


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
