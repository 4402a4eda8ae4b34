"""What a worker does besides its work: a heartbeat for Flower, and no talk with other workers.

Celery's workers greet all others when they start (mingle), which takes a second, and listen to them
for ever (gossip). That is of use for revoked tasks and elections; sinfer has neither.
"""

from __future__ import annotations

from typing import Any

from celery.worker import consumer


class Consumer(consumer.Consumer):
    """As if each worker was started with ``--without-mingle --without-gossip``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.pop("worker_options", None) or {}
        alone = {**given, "without_mingle": True, "without_gossip": True}
        super().__init__(*args, **{**options, "worker_options": alone})
