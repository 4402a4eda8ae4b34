"""Redis as the Celery broker: kombu's transport, whose workers survive a restart of Redis.

When Redis goes away, kombu wants to put the messages in hand back into their queues; with nobody
there to take them it raises what Celery does not expect (an ``AttributeError``, as in kombu issue
582), and the worker ends. Here such messages are let go: they are hints, and beat sends them again.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual
from redis.exceptions import RedisError

_log = logging.getLogger(__name__)


class _QoS(redis.QoS):
    def ack(self, delivery_tag: str) -> None:
        if self.channel.closed:
            # The connection was made anew since: an acknowledgement over the old one would open
            # connections that nobody closes, or end the worker. The message is a hint: let it go.
            virtual.QoS.ack(self, delivery_tag)
        else:
            super().ack(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        try:
            super().restore_unacked(client)
        except (AttributeError, OSError, RedisError) as error:
            delivered: dict[str, Any] = self._delivered or {}
            _log.info("%d messages are not put back: %s", len(delivered), error)
            delivered.clear()


class _Channel(redis.Channel):
    QoS = _QoS


class Transport(redis.Transport):
    """For ``redis://`` and ``rediss://``."""

    Channel = _Channel


class _SentinelChannel(redis.SentinelChannel):
    QoS = _QoS


class SentinelTransport(redis.SentinelTransport):
    """For ``sentinel://``."""

    Channel = _SentinelChannel


def install() -> None:
    """Have Celery use these transports in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{SentinelTransport.__name__}"
