"""RabbitMQ as the Celery broker: kombu's transport, which lets through what is sinfer's own.

Whoever can write to a queue could end its workers otherwise, one after the other, with one message
that Celery cannot make anything of; see ``broker_messages``.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from kombu.transport import pyamqp

from sinfer.errors import InvalidItemError
from sinfer.tasks.broker_messages import as_ours
from sinfer.tasks.redis_broker import tell_dropped
from sinfer.types.queues import QUEUE_PREFIX

_NOTHING = b"{}"
"""The body of what is dropped: Celery rejects it, as it names no task."""


class _Channel(pyamqp.Channel):
    """Knows which queue each of its consumers takes messages from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._queues: dict[str, str] = {}

    def basic_consume(self, *args: Any, **options: Any) -> Any:
        given = dict(zip(("queue", "consumer_tag"), args, strict=False)) | options
        self._queues[given.get("consumer_tag", "")] = given.get("queue", "")
        return super().basic_consume(*args, **options)

    def message_to_python(self, raw_message: Any) -> Any:
        tag = (raw_message.delivery_info or {}).get("consumer_tag", "")
        queue = self._queues.get(tag, "")
        if queue.startswith(QUEUE_PREFIX):
            try:
                ours = as_ours(_read(raw_message), queue)
            except (InvalidItemError, UnicodeDecodeError) as error:
                tell_dropped(queue, error)
                ours = {"headers": {}, "body": None}
            _write(raw_message, ours)
        return super().message_to_python(raw_message)


def _read(message: Any) -> dict[str, Any]:
    """A message in the form that kombu's own transports give it."""
    body, properties = message.body, message.properties
    return {
        "body": body if isinstance(body, str) else bytes(body).decode(),
        "headers": properties.get("application_headers"),
        "content-type": properties.get("content_type"),
        "properties": {},
    }


def _write(message: Any, ours: dict[str, Any]) -> None:
    message.body = _NOTHING if ours["body"] is None else b64decode(ours["body"])
    message.properties = {
        "application_headers": ours["headers"],
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 0,
    }


class _Connection(pyamqp.Connection):
    Channel = _Channel


class Transport(pyamqp.Transport):
    """For ``amqp://``."""

    Connection = _Connection


class TlsTransport(pyamqp.SSLTransport):
    """For ``amqps://``."""

    Connection = _Connection
