"""Connections of sinfer's Celery application: to its broker, or to the next of several.

Each scheme has a transport of sinfer's own (``redis_broker``, ``amqp_broker``). Celery is told of
the first broker's by the setting ``broker_transport``. When kombu goes on to the next of several it
takes that one's transport from its URL; here it is sinfer's again. What other applications of the
process use is left alone.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import kombu
from celery.app import amqp

_TRANSPORTS = {
    "redis": "sinfer.tasks.redis_broker:Transport",
    "rediss": "sinfer.tasks.redis_broker:Transport",
    "sentinel": "sinfer.tasks.redis_broker:SentinelTransport",
    "amqp": "sinfer.tasks.amqp_broker:Transport",
    "pyamqp": "sinfer.tasks.amqp_broker:Transport",
    "amqps": "sinfer.tasks.amqp_broker:TlsTransport",
}


def transport_for(url: str) -> str | None:
    """The transport for a broker, by the scheme of its URL; None to leave the choice to kombu.

    Args:
        url: of the broker, or of several, separated by semicolons, of which the first counts.
    """
    return _TRANSPORTS.get(urlsplit(url.split(";")[0]).scheme)


class Connection(kombu.Connection):
    """A connection whose transport stays sinfer's when it goes on to another broker."""

    def switch(self, conn_str: str) -> None:
        super().switch(conn_str)
        self.transport_cls = transport_for(conn_str) or self.transport_cls


class AMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = Connection
    BrokerConnection = Connection
