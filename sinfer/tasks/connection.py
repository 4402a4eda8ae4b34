"""Connections of sinfer's Celery application: to its broker, or to the next of several.

Each scheme has a transport of sinfer's own (``redis_broker``, ``amqp_broker``), which a connection
finds by itself. kombu's table of transports is left alone, and so is what other applications of the
process use. The setting ``broker_transport`` would do for one broker: kombu forgets it when it goes
on to the next of several, and who asks a connection for its URL, as Flower does, gets no scheme.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kombu
from celery.app import amqp
from kombu.utils.imports import symbol_by_name

from sinfer.logging.throttled import AGAIN_S
from sinfer.tasks.broker_errors import let_go

_TRANSPORTS = {
    "redis": "sinfer.tasks.redis_broker:Transport",
    "rediss": "sinfer.tasks.redis_broker:Transport",
    "sentinel": "sinfer.tasks.redis_broker:SentinelTransport",
    "amqp": "sinfer.tasks.amqp_broker:Transport",
    "pyamqp": "sinfer.tasks.amqp_broker:Transport",
    "amqps": "sinfer.tasks.amqp_broker:TlsTransport",
}
"""By the scheme of a broker's URL; kombu chooses for all others."""


_INTERVALS = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2.0}
"""Seconds between tries: kombu's grow to 30, so that a broker would be back for as long before a
worker is."""

_REFUSED_S = 1.0
"""Seconds until the next try where the broker refuses the user."""


class Connection(kombu.Connection):
    """A connection over a transport of sinfer's own, which is soon made again."""

    def ensure_connection(  # type: ignore[override]
        self,
        errback: Callable[[Exception, float], None] | None = None,
        max_retries: int | None = None,
        *,
        callback: Callable[[], object] | None = None,
        **options: Any,
    ) -> Any:
        """Connect, or wait until that succeeds: as kombu does, but with short waits.

        RabbitMQ that knows neither user nor virtual host is waited for too, as it may be told of
        them: kombu has that end whoever connects.

        Args:
            errback: called with the error of the first try, and each minute then.
            max_retries: when to give up; never without.
            callback: called before each try, to end the wait by an exception.
            options: see kombu's.
        """
        tell = _seldom(errback)
        given: dict[str, Any] = {**_INTERVALS, **options}
        given |= {"errback": tell, "max_retries": max_retries, "callback": callback}
        while True:
            try:
                return super().ensure_connection(**given)
            except Exception as error:
                refused = (*self.connection_errors, *self.channel_errors)
                if max_retries is not None or not isinstance(error, refused):
                    raise
                let_go(self)
                tell(error, _REFUSED_S)
                if callback is not None:
                    callback()
                time.sleep(_REFUSED_S)

    def get_transport_cls(self) -> Any:
        own = _TRANSPORTS.get(str(self.transport_cls))
        return super().get_transport_cls() if own is None else symbol_by_name(own)


def _seldom(tell: Callable[[Exception, float], None] | None) -> Callable[[Exception, float], None]:
    told_s = float("-inf")

    def seldom(error: Exception, interval_s: float) -> None:
        nonlocal told_s
        if tell is not None and time.monotonic() - told_s >= AGAIN_S:
            told_s = time.monotonic()
            tell(error, interval_s)

    return seldom


class AMQP(amqp.AMQP):
    """What Celery makes its connections with."""

    Connection = Connection
    BrokerConnection = Connection
