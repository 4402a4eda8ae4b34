"""Redis as the Celery broker: kombu's transport, whose workers survive a restart of Redis.

When Redis goes away, kombu wants to put the messages in hand back into their queues; with nobody
there to take them it raises what Celery does not expect (an ``AttributeError``, as in kombu issue
582), and the worker ends. Here such messages are let go: they are hints, and beat sends them again.
So are those that are none of sinfer's own; see ``broker_messages``.

A Redis that takes nothing for a while, as in a failover, is as good as one that cannot be reached:
Celery connects again then, and ends at other errors.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from kombu.transport import redis, virtual
from redis import Connection, SSLConnection, exceptions
from redis.exceptions import NoPermissionError
from redis.sentinel import SentinelManagedConnection

from sinfer.errors import InvalidItemError
from sinfer.logging.throttled import Throttled
from sinfer.store.redis_errors import outage_of
from sinfer.tasks.broker_errors import CLUSTER, ClusterError
from sinfer.tasks.broker_messages import as_ours
from sinfer.types.queues import QUEUE_PREFIX

_UNREADABLE = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError
)  # fmt: skip
"""What kombu raises where something is no message."""

_log = logging.getLogger(__name__)
_dropped = Throttled(_log)


class _QoS(redis.QoS):
    def ack(self, delivery_tag: str) -> None:
        # Where the connection was made again since, an acknowledgement over the old one would open
        # connections that nobody closes, or end the worker. Where Redis takes none, the message
        # would count as in hand for good, and no other be asked for. It is a hint: let it go.
        if not self.channel.closed:
            try:
                super().ack(delivery_tag)
                return
            except (OSError, exceptions.RedisError) as error:
                _log.info("a message is not acknowledged: %s", error)
        virtual.QoS.ack(self, delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        try:
            super().restore_unacked(client)
        except (AttributeError, OSError, exceptions.RedisError) as error:
            delivered: dict[str, Any] = self._delivered or {}
            _log.info("%d messages are not put back: %s", len(delivered), error)
            delivered.clear()


class _Reading:
    """Of a channel: lets go what is not even JSON, and refuses a Redis Cluster."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        client = self.client  # type: ignore[attr-defined]
        with suppress(NoPermissionError):  # this user may not ask
            if client.info("cluster").get("cluster_enabled"):
                self.close()  # type: ignore[attr-defined]
                raise ClusterError(CLUSTER)

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except _UNREADABLE as error:
            _tell(f"a message in the broker cannot be read and is dropped: {error}")
            return None


class _Delivering:
    """Of a transport: lets through what is sinfer's own, in the form that sinfer gives it."""

    def _deliver(self, message: Any, queue: str) -> None:
        if queue and queue.startswith(QUEUE_PREFIX):
            try:
                message = as_ours(message, queue)
            except InvalidItemError as error:
                tell_dropped(queue, error)
                return
        super()._deliver(message, queue)  # type: ignore[misc]


def tell_dropped(queue: str, error: Exception) -> None:
    """Tell of a message that is not delivered to the worker."""
    _tell(f"a message in queue {queue} is none of sinfer's and is dropped: {error}")


def _tell(text: str) -> None:
    _dropped.tell(ascii(text)[1:-1])


class _Connection:
    """Of a connection: an answer that is an outage ends it."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except exceptions.NoScriptError:
            raise  # which the client makes good itself
        except exceptions.ResponseError as error:
            if (why := outage_of(error)) is None:
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise exceptions.ConnectionError(f"{error}: {why}") from error


class _PlainConnection(_Connection, Connection):
    pass


class _TlsConnection(_Connection, SSLConnection):
    pass


class _SentinelConnection(_Connection, SentinelManagedConnection):
    pass


class _SentinelTlsConnection(_Connection, redis.SentinelManagedSSLConnection):
    pass


class _Channel(_Reading, redis.Channel):
    QoS = _QoS
    connection_class = _PlainConnection
    connection_class_ssl = _TlsConnection


class Transport(_Delivering, redis.Transport):  # type: ignore[misc]
    """For ``redis://`` and ``rediss://``."""

    Channel = _Channel


class _SentinelChannel(_Reading, redis.SentinelChannel):
    QoS = _QoS
    connection_class = _SentinelConnection
    connection_class_ssl = _SentinelTlsConnection


class SentinelTransport(_Delivering, redis.SentinelTransport):  # type: ignore[misc]
    """For ``sentinel://``."""

    Channel = _SentinelChannel
