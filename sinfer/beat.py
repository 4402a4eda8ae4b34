"""Beat's scheduler: an outage of the broker is one line in its log, not a traceback a tick, and one
tick waits at most where no worker takes any."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any

from celery import beat

from sinfer.celery_app import TICK_QUEUE, TICK_TASK, waiting_messages

_log = logging.getLogger(__name__)

_REPEAT_S = 60.0
"""How often an outage is told again while it lasts."""


class Scheduler(beat.Scheduler):
    """Sends what is due. What cannot be sent is let go: the next tick finds it.

    Nothing is kept in a file, as Celery's usual scheduler does: ticks begin at once after a start.
    """

    _failing_s = 0.0
    _told_s = 0.0

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry's message; never raises."""
        try:
            if entry.task != TICK_TASK or self._has_room(producer or self.producer):
                self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # whatever the transport raises
            now = time.monotonic()
            if not self._failing_s:
                self._failing_s = now
            if not self._told_s or now - self._told_s >= _REPEAT_S:
                self._told_s = now
                _log.warning(
                    "the Celery broker takes no messages for %.0f s: %s; trying again with every"
                    " tick", now - self._failing_s, error,
                )  # fmt: skip
            self._connect_again()
        else:
            if self._failing_s:
                _log.info("the Celery broker takes messages again")
            self._failing_s = self._told_s = 0.0

    def _connect_again(self) -> None:
        """Have the next tick travel over a new connection.

        AMQP's does not find out by itself that the broker was restarted. Celery would wait here,
        longer with every try, for the broker to be back.
        """
        connection: Any = self.connection
        with suppress(Exception):  # it is broken, and what that leads to does not matter
            connection.collapse()
        fields = vars(self)
        fields["producer"] = fields["Producer"](connection, auto_declare=False)

    def _has_room(self, producer: Any) -> bool:
        """Whether no tick waits: one is as good as many."""
        return waiting_messages(producer.channel, TICK_QUEUE) == 0
