"""The beat entries and the app they belong to: ``celery -A beat_schedule beat``."""

from __future__ import annotations

from sinfer.settings import settings
from sinfer.tasks.celery import app
from sinfer.types.queues import TICK_QUEUE, TICK_TASK

app.conf.beat_schedule = {
    "tick": {
        "task": TICK_TASK,
        "schedule": settings().tick.total_seconds(),
        "options": {"queue": TICK_QUEUE},
    }
}
app.conf.beat_max_loop_interval = settings().tick.total_seconds()
