"""What a worker does besides its work: a heartbeat for Flower, no talk with other workers, and
notes for its processes: that it listens to its broker, and whether somebody watches.

Celery's workers greet all others when they start (mingle), which takes a second, and listen to them
forever (gossip). That is of use for revoked tasks and elections; sinfer has neither.
"""

from __future__ import annotations

from typing import Any

from celery.worker import consumer

from sinfer.tasks.worker_memory import note_listening, want_events

_NOTE_S = 1.0


class Consumer(consumer.Consumer):
    """As if each worker was started with ``--without-mingle --without-gossip``.

    While it listens, ``worker_memory`` says so, and whether events of tasks are wanted: by ``-E``,
    or since a monitor such as Flower has asked for them.
    """

    event_dispatcher: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.pop("worker_options", None) or {}
        alone = {**given, "without_mingle": True, "without_gossip": True}
        super().__init__(*args, **{**options, "worker_options": alone})

    def register_with_event_loop(self, hub: Any) -> None:
        """Its connection to the broker has begun, and this ends with it."""
        super().register_with_event_loop(hub)
        self._note()
        hub.call_repeatedly(_NOTE_S, self._note)

    def _note(self) -> None:
        note_listening()
        events = self.event_dispatcher
        groups = getattr(events, "groups", None)
        is_on = bool(getattr(events, "enabled", False))
        want_events(is_on and (not groups or "task" in groups))
