"""Redis as the Celery broker: kombu's transport, whose workers survive a restart of Redis.

A channel whose connection is gone is asked to put messages back, or to acknowledge one that was
processed meanwhile. kombu answers with an ``AttributeError`` (as in its issue 582), which Celery
takes for a bug and ends the worker. Here it is what it is: an error of the connection, which Celery
knows to ignore. The messages are hints, and beat sends them again.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ConnectionError as RedisConnectionError


class _OpenOnly(redis.Channel):
    """Makes no connection once its own is closed."""

    def _connparams(self, asynchronous: bool = False) -> Any:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection of this message is closed")
        return super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]


class Transport(redis.Transport):
    """For ``redis://`` and ``rediss://``."""

    Channel = _OpenOnly


class _SentinelChannel(_OpenOnly, redis.SentinelChannel):
    """The same behind Redis Sentinel."""


class SentinelTransport(redis.SentinelTransport):
    """For ``sentinel://``."""

    Channel = _SentinelChannel


def install() -> None:
    """Have Celery use these transports in this process."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{SentinelTransport.__name__}"
