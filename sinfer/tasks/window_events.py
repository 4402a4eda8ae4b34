"""Windows as tasks of Celery's own monitoring, so that Flower shows them by product and task.

A Celery message only begins work, and nobody wants to watch ticks: neither has events. What is
done with a window has: received and started when it is claimed, then succeeded, failed, or to be
retried, under one name for each task, ``product/task``, and one id for each window.

Events are sent only while somebody has asked for them (``-E``, or a Flower that runs), from a
thread, many in one message. When there are more than can be sent the oldest are dropped: a monitor
must not hold up what it watches.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from typing import Any

from celery import Celery
from celery.events import EventDispatcher

from sinfer.logging.throttled import Throttled
from sinfer.store.work.claim import Claim
from sinfer.tasks import presence
from sinfer.tasks.publishing import publish
from sinfer.tasks.worker_memory import are_events_wanted
from sinfer.windows.ids import Scope
from sinfer.worker.outcome import WindowEnd

_log = logging.getLogger(__name__)

_EVERY_S = 0.5
"""How often events are sent, those of so long in one message."""

_MOST_WAITING = 3000
"""So many events wait at most, three for each window."""

_NAMES = uuid.UUID("6f0d3c5e-64a5-4a27-9a0e-4d0b3c6f8a11")
"""Ids of windows are made within this namespace."""


class WindowEvents:
    """The events of one worker process.

    Args:
        app: the Celery application, for a connection to the broker.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque(maxlen=_MOST_WAITING)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused = Throttled(_log)

    def began(self, scope: Scope, claim: Claim, messages: int) -> ShownWindow | None:
        """A window is being processed; None while nobody wants to know.

        Args:
            scope: its partition.
            claim: of the window.
            messages: how many it has.
        """
        if not are_events_wanted():
            return None
        shown = ShownWindow(self, scope, claim, messages)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="sinfer-window-events", daemon=True
            )
            self._thread.start()
        return shown

    def add(self, kind: str, fields: dict[str, Any]) -> None:
        """An event to be sent with the next ones."""
        self._waiting.append((kind, fields))

    def _run(self) -> None:
        while not self._closing.wait(_EVERY_S):
            self._send()
        self._send()

    def _send(self) -> None:
        """Send what waits; what cannot be sent is dropped."""
        waiting = []
        while self._waiting:
            waiting.append(self._waiting.popleft())
        if not waiting:
            return
        try:
            publish(self._app, lambda producer: self._send_all(waiting, producer))
        except Exception as error:  # whatever the transport raises
            self._refused.tell(f"Flower sees no windows, the broker takes no events: {error}")
        else:
            self._refused.over("the broker takes events again")

    def _send_all(self, waiting: list[tuple[str, dict[str, Any]]], producer: Any) -> None:
        dispatcher = EventDispatcher(
            producer.connection,
            hostname=presence.worker_name(),
            channel=producer.channel,
            buffer_while_offline=False,
            app=self._app,
            buffer_group=["task"],
            buffer_limit=_MOST_WAITING + 1,
        )
        for kind, fields in waiting:
            dispatcher.send(kind, **fields)
        dispatcher.flush()

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what waits and end."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout_s)


class ShownWindow:
    """One try of a window, for who watches.

    Args:
        events: takes the events.
        scope, claim, messages: see ``WindowEvents.began``.
    """

    def __init__(self, events: WindowEvents, scope: Scope, claim: Claim, messages: int) -> None:
        self._events = events
        self._began_s = time.time()
        window = claim.window.id
        self._id = str(uuid.uuid5(_NAMES, f"{scope.product}/{window}"))
        arguments = {
            "product": scope.product,
            "task": scope.task,
            "partition": scope.partition,
            "window": window,
            "messages": messages,
            "attempt": claim.attempt,
        }
        told = {
            "name": f"{scope.product}/{scope.task}",
            "args": f"({window!r},)",
            "kwargs": repr(arguments),
            "root_id": self._id,
            "parent_id": None,
            "retries": claim.attempt - 1,
            "eta": None,
            "expires": None,
        }
        self._add("task-received", self._began_s, **told)
        self._add("task-started", self._began_s)

    def ended(self, end: WindowEnd | None) -> None:
        """What became of it; None where another worker has it, or it was broken off."""
        now_s = time.time()
        if end is None:
            self._add("task-retried", now_s, exception="broken off, or lost", traceback="")
        elif end.again:
            self._add("task-retried", now_s, exception=end.again, traceback="")
        elif end.dead and not end.results:
            self._add("task-failed", now_s, exception=end.error, traceback="")
        else:
            self._add("task-succeeded", now_s, result=str(end), runtime=now_s - self._began_s)

    def _add(self, kind: str, at_s: float, **fields: Any) -> None:
        self._events.add(kind, {"uuid": self._id, "timestamp": at_s, **fields})
