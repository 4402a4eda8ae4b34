"""Beat while the broker is unavailable: what its log says, and that it goes on by itself."""

from __future__ import annotations

import logging

import pytest
from celery.schedules import schedule

from sinfer.embedded.servers import RedisServer
from sinfer.logging import throttled
from sinfer.tasks import beat
from sinfer.tasks.application import make_app, waiting_messages
from sinfer.types.queues import TICK_QUEUE, TICK_TASK
from tests.support.until import until_true

pytestmark = pytest.mark.integration


def test_one_tick_waits_at_most_where_no_worker_takes_any_and_other_entries_are_sent() -> None:
    app = make_app([])
    with RedisServer() as server:
        app.conf.update(broker_url=server.url)
        scheduler = beat.Scheduler(app=app, lazy=True)
        tick = scheduler.Entry(name="tick", task=TICK_TASK, schedule=schedule(1.0), app=app)
        own = scheduler.Entry(
            name="own", task="own", schedule=schedule(1.0), app=app, options={"queue": "own"}
        )
        for _ in range(5):
            scheduler.apply_entry(tick)
            scheduler.apply_entry(own)
        with app.connection_for_read() as connection:
            assert waiting_messages(connection.default_channel, TICK_QUEUE) == 1
            assert waiting_messages(connection.default_channel, "own") == 5
            connection.SimpleQueue(TICK_QUEUE).get(block=False).ack()
            scheduler.apply_entry(tick)
            assert waiting_messages(connection.default_channel, TICK_QUEUE) == 1
    scheduler.close()
    app.close()


def test_an_outage_of_the_broker_is_one_line_now_and_then_and_ends_by_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app([])
    assert app.conf.beat_scheduler == f"{beat.__name__}:{beat.Scheduler.__name__}"
    caplog.set_level(logging.INFO, "sinfer.tasks.beat")
    with RedisServer() as server:
        app.conf.update(broker_url=server.url)
        scheduler = beat.Scheduler(app=app, lazy=True)
        entry = scheduler.Entry(name="tick", task="sinfer.tick", schedule=schedule(1.0), app=app)
        scheduler.apply_entry(entry)
        assert not caplog.records

        server.process.kill()
        for _ in range(5):
            scheduler.apply_entry(entry)
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("the Celery broker takes no messages")
        assert record.exc_info is None

        monkeypatch.setattr(throttled, "AGAIN_S", 0.0)
        scheduler.apply_entry(entry)
        assert len(caplog.records) == 2

        monkeypatch.undo()
        server.restart()

        def is_over() -> bool:
            scheduler.apply_entry(entry)
            return "takes messages again" in caplog.records[-1].getMessage()

        until_true(is_over)  # it may have to load its data first, which is told no more often
        scheduler.apply_entry(entry)
        assert len(caplog.records) == 3
    scheduler.close()
    app.close()
