"""Beat's scheduler: an outage of the broker is one line in its log, not a traceback a tick, and one
tick waits at most where no worker takes any."""

from __future__ import annotations

import logging
import os
import secrets
import time
from importlib.metadata import version
from socket import gethostname
from typing import Any

from celery import beat

from sinfer.liveness.overdue_windows import Overdue
from sinfer.liveness.sign_of_life import SignOfLife
from sinfer.logging.throttled import Throttled
from sinfer.store.boards.running_processes import Presence
from sinfer.tasks.application import shown_broker, waiting_messages
from sinfer.tasks.broker_errors import broker_problem, let_go
from sinfer.types.queues import TICK_QUEUE, TICK_TASK

_log = logging.getLogger(__name__)

_STUCK_S = 30.0
"""A beat that has not looked at its schedule for so long gives no sign of life."""


_OUTAGE = "outage"


class Scheduler(beat.Scheduler):
    """Sends what is due. What cannot be sent is let go: the next tick finds it.

    Nothing is kept in a file, as Celery's usual scheduler does: ticks begin at once after a start.
    """

    _ticked_s = 0.0
    _outage = Throttled(_log)
    _sign: SignOfLife | None = None
    _token = ""

    def tick(self, *args: Any, **options: Any) -> Any:
        """One round; beat gives signs of life as long as there are any."""
        self._ticked_s = time.monotonic()
        if self._sign is None:
            self._token = secrets.token_hex(4)
            self._sign = SignOfLife(self._presence, Overdue().look)
        return super().tick(*args, **options)

    def close(self) -> None:
        """Beat ends."""
        if self._sign is not None:
            self._sign.close()
        super().close()

    def _presence(self) -> Presence | None:
        if time.monotonic() - self._ticked_s > _STUCK_S:
            return None
        return Presence(
            "beat",
            gethostname(),
            os.getpid(),
            self._token,
            broker=shown_broker(),
            version=version("sinfer"),
        )

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry's message; never raises."""
        try:
            if entry.task != TICK_TASK or self._has_room(producer or self.producer):
                self.apply_async(entry, producer=producer, advance=False)
        except Exception as error:  # whatever the transport raises
            self._outage.tell(
                f"the Celery broker takes no messages for {self._outage.lasted_s:.0f} s:"
                f" {broker_problem(error)}; trying again with every tick",
                problem=_OUTAGE,
            )
            self._connect_again()
        else:
            self._outage.over("the Celery broker takes messages again")

    def _connect_again(self) -> None:
        """Have the next tick travel over a new connection.

        AMQP's does not find out by itself that the broker was restarted. Celery would wait here,
        longer with every try, for the broker to be back.
        """
        connection: Any = self.connection
        let_go(connection)
        self.producer = self.app.amqp.Producer(connection, auto_declare=False)  # type: ignore[misc]

    def _has_room(self, producer: Any) -> bool:
        """Whether no tick waits: one is as good as many."""
        return waiting_messages(producer.channel, TICK_QUEUE) == 0
