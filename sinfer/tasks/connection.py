"""Connections of sinfer's Celery application: to its broker, or to the next of several.

Each scheme has a transport of sinfer's own (``redis_broker``, ``amqp_broker``), which a connection
finds by itself. kombu's table of transports is left alone, and so is what other applications of the
process use. The setting ``broker_transport`` would do for one broker: kombu forgets it when it goes
on to the next of several, and who asks a connection for its URL, as Flower does, gets no scheme.
"""

from __future__ import annotations

from typing import Any

import kombu
from celery.app import amqp
from kombu.utils.imports import symbol_by_name

_TRANSPORTS = {
    "redis": "sinfer.tasks.redis_broker:Transport",
    "rediss": "sinfer.tasks.redis_broker:Transport",
    "sentinel": "sinfer.tasks.redis_broker:SentinelTransport",
    "amqp": "sinfer.tasks.amqp_broker:Transport",
    "pyamqp": "sinfer.tasks.amqp_broker:Transport",
    "amqps": "sinfer.tasks.amqp_broker:TlsTransport",
}
"""By the scheme of a broker's URL; kombu chooses for all others."""


class Connection(kombu.Connection):
    """A connection over a transport of sinfer's own."""

    def get_transport_cls(self) -> Any:
        own = _TRANSPORTS.get(str(self.transport_cls))
        return super().get_transport_cls() if own is None else symbol_by_name(own)


class AMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = Connection
    BrokerConnection = Connection
