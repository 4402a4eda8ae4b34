"""The URL of the Celery broker: which brokers there are, and what to do about any other."""

from __future__ import annotations

import re

from sinfer.config.sentinel_url import SCHEMES, SentinelUrl

_KINDS = ("redis", "rediss", *SCHEMES, "amqp", "amqps", "pyamqp")

_SUPPORTED = (
    "sinfer works with Redis (redis://, rediss://, or Sentinels as"
    " sentinel://host:26379,other:26379/name/1) and RabbitMQ (amqp://, amqps://)"
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)")


def check_broker_url(text: str) -> None:
    """Look at the URL of a broker, or of several with semicolons between them.

    Raises:
        ValueError: sinfer does not work with such a broker, or the URL is incomplete.
    """
    if any(_kind(url) in SCHEMES for url in text.split(";")):
        SentinelUrl.parse(text)


def _kind(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ValueError(f"write the broker as a URL: {_SUPPORTED}")
    kind = scheme[0].lower()
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is not supported as a broker; {_SUPPORTED}")
    return kind
