"""The Celery application and its tasks, where Celery looks for them: ``celery -A sinfer.tasks``."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery import Celery, signals
from celery.concurrency import prefork

from sinfer import exit_codes
from sinfer.errors import ConfigError, InvalidItemError
from sinfer.logging.masking import mask
from sinfer.logging.setup import LeaveOut, set_up_logging
from sinfer.products.registry import load_products
from sinfer.settings import settings
from sinfer.tasks import flower, presence
from sinfer.tasks.application import make_app
from sinfer.tasks.hint_message import read_hint
from sinfer.tasks.runtime import close_runtime, runtime
from sinfer.tasks.worker_memory import tell_to_end
from sinfer.types.queues import PROCESS_TASK, TICK_QUEUE, TICK_TASK, product_queue
from sinfer.worker.claim_loop import follow_hint, look_around
from sinfer.worker.tick import tick

_log = logging.getLogger(__name__)

flower.set_up()


def _make_app() -> Celery:
    """The application, whose workers serve all products that can be found.

    Celery answers an exception at this place with a traceback, so a mistake in the settings ends
    the process here.
    """
    try:
        products, problems = load_products(settings().products)
        presence.note_products(products, problems)
        return make_app([TICK_QUEUE, *(product_queue(name) for name in sorted(products))])
    except ConfigError as error:
        print(f"Error: {mask(str(error))}", file=sys.stderr)
        sys.exit(exit_codes.exit_code_for(error))


app: Celery = _make_app()


# Flower shows windows (see ``window_events``), not what begins them. Shared tasks would be those of
# a product's own Celery application as well.
@app.task(name=PROCESS_TASK, send_events=False, shared=False)
def process(*_: Any, **fields: Any) -> None:
    """Begin to process closed windows of a partition; see ``read_hint`` for the fields."""
    try:
        scope, windows = read_hint(fields)
    except InvalidItemError as error:
        _log.warning("%s; it is dropped", error)
        return
    here = runtime(app)
    here.run(follow_hint(here, scope, windows))


@app.task(name=TICK_TASK, send_events=False, shared=False)
def run_tick(*_: Any, **__: Any) -> None:
    """Close what is due by time and have it processed."""
    here = runtime(app)
    here.run(tick(here))


def _begin_to_work(**_: object) -> None:
    """What is ready already is begun with, whether hints tell of it or not."""
    here = runtime(app)
    here.call_soon(look_around, here)
    presence.begin(app)


@signals.worker_ready.connect
def _begin_in_one_process(sender: Any = None, **_: object) -> None:
    if not isinstance(getattr(sender, "pool", None), prefork.TaskPool):
        _begin_to_work()


signals.worker_init.connect(presence.note_name)
signals.worker_process_init.connect(_begin_to_work)
signals.worker_shutting_down.connect(tell_to_end)


@signals.setup_logging.connect
def _logging(loglevel: Any = None, **_: object) -> None:
    set_up_logging(settings().log_level, settings().log_format, leave_out=LeaveOut(TICK_TASK))


@signals.worker_ready.connect
def _report_products(**_: object) -> None:
    for problem in load_products(settings().products)[1].values():
        _log.error("product skipped: %s", problem)


for _ending in (signals.worker_process_shutdown, signals.worker_shutdown):
    _ending.connect(presence.end)
    _ending.connect(close_runtime)
