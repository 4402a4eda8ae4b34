"""Beat while the broker is away: what its log says, and that it goes on by itself."""

from __future__ import annotations

import logging

import pytest
from celery.schedules import schedule

from sinfer import beat
from sinfer.celery_app import make_app
from sinfer.embedded.servers import RedisServer

pytestmark = pytest.mark.integration


def test_an_outage_of_the_broker_is_one_line_now_and_then_and_ends_by_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app([])
    assert app.conf.beat_scheduler == f"{beat.__name__}:{beat.Scheduler.__name__}"
    caplog.set_level(logging.INFO, "sinfer.beat")
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

        monkeypatch.setattr(beat, "_REPEAT_S", 0.0)
        scheduler.apply_entry(entry)
        assert len(caplog.records) == 2

        server.restart()
        for _ in range(5):
            scheduler.apply_entry(entry)
        assert len(caplog.records) == 3
        assert "takes messages again" in caplog.records[-1].getMessage()
    app.close()
