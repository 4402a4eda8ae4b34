"""The Celery application and its tasks: ``celery -A sinfer.tasks worker`` (or ``flower``)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals

from sinfer.celery_app import PROCESS_TASK, TICK_QUEUE, TICK_TASK, make_app, product_queue
from sinfer.logs import set_up_logging
from sinfer.products.registry import load_products
from sinfer.settings import settings
from sinfer.tasks.draining import drain
from sinfer.tasks.runtime import close_runtime, runtime
from sinfer.tasks.ticking import tick
from sinfer.windows.ids import Scope

# Flower shows what runs and can end it: by default only to this machine.
os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")


def _queues() -> list[str]:
    products, _ = load_products(settings().products)
    return [TICK_QUEUE, *(product_queue(name) for name in sorted(products))]


app: Celery = make_app(_queues())


@app.task(name=PROCESS_TASK)
def process(product: str, task: str, partition: str, windows: int) -> None:
    """Process closed windows of a partition; ``windows`` says how many were waiting."""
    here = runtime(app)
    here.call(drain(here, Scope(product, task, partition), windows))


@app.task(name=TICK_TASK)
def run_tick() -> None:
    """Close what is due by time and have it processed."""
    here = runtime(app)
    here.call(tick(here))


@signals.setup_logging.connect
def _logging(loglevel: Any = None, **_: object) -> None:
    set_up_logging(settings().log_level, settings().log_format)


signals.worker_process_shutdown.connect(close_runtime)
signals.worker_shutdown.connect(close_runtime)
