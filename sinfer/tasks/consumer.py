"""What a worker does besides its work: a heartbeat for Flower, no talk with other workers, and
notes for its processes: that it listens to its broker, and whether somebody watches.

Celery's workers greet all others when they start (mingle), which takes a second, and listen to them
forever (gossip). That is of use for revoked tasks and elections; sinfer has neither.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery.worker import consumer

from sinfer.logging.throttled import Throttled
from sinfer.tasks.broker_errors import broker_problem
from sinfer.tasks.worker_memory import note_listening, want_events

_log = logging.getLogger(__name__)

_NOTE_S = 1.0

_PAUSE_S = 2.0
"""How long it waits where the broker refuses what a worker begins with, again and again."""

_SOON_S = 10.0
"""A connection that is lost within so long counts as refused."""


class Consumer(consumer.Consumer):
    """As if each worker was started with ``--without-mingle --without-gossip``.

    While it listens, ``worker_memory`` says so, and whether events of tasks are wanted: by ``-E``,
    or since a monitor such as Flower has asked for them.
    """

    event_dispatcher: Any
    _outage = Throttled(_log)
    _lost_s = float("-inf")

    def __init__(self, *args: Any, **options: Any) -> None:
        given = options.pop("worker_options", None) or {}
        alone = {**given, "without_mingle": True, "without_gossip": True}
        super().__init__(*args, **{**options, "worker_options": alone})

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """The broker refuses something; Celery would try again hundreds of times a second."""
        self._outage.tell(
            f"the Celery broker refuses a worker: {broker_problem(exc)}; trying again every"
            f" {_PAUSE_S:.0f} s",
            level=logging.ERROR,
        )
        time.sleep(_PAUSE_S)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """The connection is lost, or the broker refuses what is asked for over it."""
        super().on_connection_error_after_connected(exc)
        lost_s, self._lost_s = self._lost_s, time.monotonic()
        if self._lost_s - lost_s < _SOON_S:
            time.sleep(_PAUSE_S)

    def register_with_event_loop(self, hub: Any) -> None:
        """Its connection to the broker has begun, and this ends with it."""
        super().register_with_event_loop(hub)
        self._outage.over()
        self._note()
        hub.call_repeatedly(_NOTE_S, self._note)

    def _note(self) -> None:
        note_listening()
        events = self.event_dispatcher
        groups = getattr(events, "groups", None)
        is_on = bool(getattr(events, "enabled", False))
        want_events(is_on and (not groups or "task" in groups))
