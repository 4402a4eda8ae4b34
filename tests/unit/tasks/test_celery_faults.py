"""What Celery and kombu do that would end a worker, or cost a user, and sinfer's room prevents.

When one of these fails, they have mended it: see ``sinfer.tasks.private_names`` for what can go
then. Those of the pool are in ``test_prefork``.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from celery import beat
from celery.concurrency.asynpool import AsynPool
from celery.schedules import schedule
from kombu.transport import redis

from sinfer.tasks import beat as our_beat
from sinfer.tasks import redis_broker
from sinfer.tasks.application import make_app
from sinfer.tasks.prefork import Pool


class Lost:
    """A channel whose Redis is gone; see kombu issue 582."""

    def conn_or_acquire(self, client: object) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'pipeline'")


@pytest.mark.parametrize(("qos", "survives"), [(redis_broker._QoS, True), (redis.QoS, False)])
def test_messages_in_hand_are_let_go_and_kombu_itself_still_raises(
    qos: type[Any], survives: bool
) -> None:
    found = object.__new__(qos)
    found.channel, found._delivered = Lost(), {"tag": "message"}
    if survives:
        found.restore_unacked()
        assert found._delivered == {}
    else:
        with pytest.raises(AttributeError):
            found.restore_unacked()


class Garbled:
    """A client of Redis that answers with what is no message."""

    connection = None

    def parse_response(self, *_: object, **__: object) -> tuple[bytes, bytes]:
        return b"queue", b"no JSON"


@pytest.mark.parametrize(
    ("channel", "survives"), [(redis_broker._Channel, True), (redis.Channel, False)]
)
def test_what_is_no_message_is_dropped_and_kombu_itself_still_raises(
    channel: type[Any], survives: bool
) -> None:
    class Reading(channel):  # type: ignore[misc]
        client = Garbled()
        sep = "\x06"
        _queue_cycle = SimpleNamespace(rotate=lambda queue: None)

        def __init__(self) -> None:
            self.connection_errors = ()

        def _flush_brpop_reauth(self) -> None:
            pass

        def __del__(self) -> None:
            pass

    if survives:
        assert Reading()._brpop_read() is None
    else:
        with pytest.raises(redis_broker._UNREADABLE):
            Reading()._brpop_read()


@pytest.mark.parametrize(("pool", "survives"), [(Pool, True), (AsynPool, False)])
def test_a_child_that_died_at_once_is_forgiven_and_celery_itself_still_ends_the_worker(
    pool: type[Any], survives: bool
) -> None:
    found = object.__new__(pool)
    found._join_exited_workers = lambda: True  # one has
    assert found.did_start_ok() is survives


class Refusing(Exception):
    """The broker takes nothing."""


@pytest.mark.parametrize(("ours", "lines"), [(True, 0), (False, 1)])
def test_beat_tells_an_outage_in_one_line_and_celery_itself_still_writes_a_traceback(
    ours: bool, lines: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app([])
    app.conf.update(broker_url="memory://")
    scheduler = (our_beat.Scheduler if ours else beat.Scheduler)(app=app, lazy=True)

    def refuse(*_: object, **__: object) -> None:
        raise Refusing

    monkeypatch.setattr(scheduler, "apply_async", refuse)
    caplog.set_level(logging.INFO)
    entry = scheduler.Entry(name="own", task="own", schedule=schedule(1.0), app=app)
    connection = scheduler.connection
    connection.connect()
    scheduler.apply_entry(entry)
    assert len([record for record in caplog.records if record.exc_info]) == lines
    assert connection.connected != ours  # and the next tick travels over a new connection
    app.close()
