"""Publishing over connections that may have died: what failed once carries nothing more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from sinfer.tasks.broker_errors import let_go


def publish(app: Celery, send: Callable[[Any], None]) -> None:
    """Send messages.

    A connection is found to be dead when it is used, or to be alive with a channel that is closed,
    or not to answer in time. Neither kombu nor the broker mends these, so such a connection is let
    go. Where it was made earlier the broker may well be there, and a new one is tried at once.

    Args:
        app: the Celery application, for its pool of producers.
        send: given a producer; called again after a failure, so that what it did then is not lost.

    Raises:
        Exception: the broker takes nothing; whatever the transport raises.
    """
    is_tried = False
    while not is_tried:
        with app.producer_pool.acquire(block=True) as producer:
            connection: Any = producer.connection
            is_tried = not connection.connected
            try:
                send(producer)
            except Exception:
                let_go(connection)
                if is_tried:
                    raise
            else:
                return
