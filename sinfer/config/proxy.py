"""A proxy in a configuration."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    SecretStr,
    SerializationInfo,
    WithJsonSchema,
)

from sinfer.config.secret import STORING, ReferringSecret, resolve_references, storable
from sinfer.logging.masking import mask

FROM_ENVIRONMENT = "environment"
NO_PROXY = "none"

_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_url(text: str) -> str:
    """The URL of a proxy in full: tools take it without ``http://``, and ``socks://`` for SOCKS 5.

    Raises:
        ValueError: it is none; the text begins with "is".
    """
    written = text if "://" in text else f"http://{text}"
    if written.lower().startswith("socks://"):
        written = f"socks5{written[5:]}"
    try:
        parts = urlsplit(written)
        is_usable = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not written.isprintable() or " " in written:
        raise ValueError(
            "is no URL of a proxy: write http://host:port, https://, socks5:// or socks5h://"
        )
    return written


def _proxy(value: Any) -> Any:
    if value is False:
        return SecretStr(NO_PROXY)
    if not isinstance(value, str):
        return value
    if (word := value.strip().lower()) in (FROM_ENVIRONMENT, NO_PROXY):
        return SecretStr(word)
    resolved = resolve_references(value).strip()
    proxy_url(resolved)
    return ReferringSecret(resolved, value)


def _dumped_proxy(value: SecretStr, info: SerializationInfo) -> Any:
    if not isinstance(value, ReferringSecret):
        return value.get_secret_value()
    if info.context != STORING:
        return mask(value.get_secret_value())
    return storable(value.written)


Proxy = Annotated[
    SecretStr,
    BeforeValidator(_proxy),
    PlainSerializer(_dumped_proxy, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "examples": ["none", "environment", "http://proxy:3128"]}),
]
"""A proxy in a configuration: a URL, ``none`` to do without, or ``environment`` for what
``HTTP_PROXY`` and its like say. The URL may refer to the environment as ``${NAME}``."""
