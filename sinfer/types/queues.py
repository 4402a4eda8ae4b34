"""The names that Celery messages travel under: queues, and the tasks that they call."""

from __future__ import annotations

QUEUE_PREFIX = "sinfer."

TICK_QUEUE = f"{QUEUE_PREFIX}tick"
"""Ticks have a queue of their own, so that a worker can serve nothing else."""

PROCESS_TASK = "sinfer.process"
TICK_TASK = "sinfer.tick"


def product_queue(product: str) -> str:
    """The queue that carries the windows of a product."""
    return f"{QUEUE_PREFIX}{product}"
