"""What a worker does besides its work: a heartbeat for Flower, no talk with other workers, and a
note that it listens to its broker.

Celery's workers greet all others when they start (mingle), which takes a second, and listen to them
for ever (gossip). That is of use for revoked tasks and elections; sinfer has neither.
"""

from __future__ import annotations

from typing import Any

from celery.worker import consumer

from sinfer.worker_memory import note_listening

_NOTE_S = 1.0


class Consumer(consumer.Consumer):
    """As if each worker was started with ``--without-mingle --without-gossip``.

    While it listens, ``sinfer.worker_memory`` says so.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.pop("worker_options", None) or {}
        alone = {**given, "without_mingle": True, "without_gossip": True}
        super().__init__(*args, **{**options, "worker_options": alone})

    def register_with_event_loop(self, hub: Any) -> None:
        """Its connection to the broker has begun, and this ends with it."""
        super().register_with_event_loop(hub)
        note_listening()
        hub.call_repeatedly(_NOTE_S, note_listening)
