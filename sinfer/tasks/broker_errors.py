"""What a broker that cannot be used is told as, and what becomes of the connection."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from amqp.exceptions import AccessRefused
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

_REFUSED = (AccessRefused, AuthenticationError, NoPermissionError)

_CLIENTS = re.compile(r"\s*[:,]\s*<redis\b.*", re.DOTALL)
"""What redis-py adds to what Sentinels say: clients with all their options."""

_ONE_DATABASE = re.compile(r"DB index is out of range|not allowed in cluster mode")

CLUSTER = (
    "it is a Redis Cluster, which cannot be a Celery broker; name a Redis of its own, a Sentinel or"
    " RabbitMQ in SINFER_BROKER_URL"
)


class ClusterError(ResponseError):
    """The broker is a Redis Cluster: kombu's commands name keys of several slots at once."""


def broker_problem(error: BaseException) -> str:
    """Why a broker cannot be used, without what only its libraries' authors understand."""
    text = _CLIENTS.sub("", str(error)) or type(error).__name__
    if _ONE_DATABASE.search(text):
        return f"{text}: {CLUSTER}"
    return text


def is_refused(error: BaseException | None) -> bool:
    """Whether the broker does not accept the user or the password."""
    return isinstance(error, _REFUSED)


def let_go(connection: Any) -> None:
    """Have a connection made again when it is used next, without a word to the broker."""
    with suppress(Exception):  # it is broken, and what that leads to does not matter
        connection.collect()
