"""Which proxy a call goes through: by one rule for all clients, and with a name for errors.

A task's own ``proxy`` counts first, then ``SINFER_PROXY``, then the variables that most programs
know: ``HTTP_PROXY`` or ``HTTPS_PROXY`` by the scheme of what is called, ``ALL_PROXY``, and
``NO_PROXY`` for what none of these is for. A name in small letters goes before one in capitals.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from ipaddress import ip_address, ip_network

import httpx
from pydantic import SecretStr

from sinfer.config.proxy import FROM_ENVIRONMENT, NO_PROXY, proxy_url
from sinfer.errors import ConfigError
from sinfer.extras import EXTRA_OF
from sinfer.settings import settings

_SOCKS = ("socks5", "socks5h")
_SOCKS_PACKAGE = "socksio"


class Proxy:
    """A proxy, and who named it.

    Args:
        url: with its credentials, if it has any.
        origin: the field, setting or variable that names it.

    Attributes:
        url, origin: see above.
        shown: both for people, without credentials.
        secrets: what no text must be quoted with.
    """

    def __init__(self, url: httpx.URL, origin: str) -> None:
        self.url = url
        self.origin = origin
        self.shown = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')} of {origin}"
        pair = b64encode(f"{url.username}:{url.password}".encode()).decode()
        self.secrets = [url.password, pair] if url.password else []

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS."""
        return self.url.scheme in _SOCKS


def through(proxy: Proxy | None) -> str:
    """Behind the name of what is called, for errors; empty without a proxy."""
    return "" if proxy is None else f" through the proxy {proxy.shown}"


def proxy_for(
    url: httpx.URL, chosen: SecretStr | None, field: str, *, first: Sequence[str] = ()
) -> Proxy | None:
    """The proxy for calls to a server; None for none.

    Args:
        url: of the server.
        chosen: the task's own choice; None where it has none.
        field: how errors call that.
        first: variables that go before the usual ones.

    Raises:
        ConfigError: what is named is no proxy, or an extra is missing to use it.
    """
    text, origin = (None, field) if chosen is None else (chosen.get_secret_value(), field)
    if text is None:
        general = settings().proxy
        text = FROM_ENVIRONMENT if general is None else general.get_secret_value()
        origin = "SINFER_PROXY"
    if text == FROM_ENVIRONMENT:
        text, origin = _named(url.scheme, first)
    if text in ("", NO_PROXY) or (origin != field and is_exempt(url, _variable("no_proxy"))):
        return None
    try:
        found = httpx.URL(proxy_url(text))
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"{origin} {error}{_remedy(origin, field)}") from None
    proxy = Proxy(found, origin)
    if proxy.is_socks and find_spec(_SOCKS_PACKAGE) is None:
        extra = EXTRA_OF[_SOCKS_PACKAGE]
        raise ConfigError(
            f"the proxy {proxy.shown} speaks SOCKS, and {_SOCKS_PACKAGE} is not installed;"
            f" pip install 'sinfer[{extra}]'{_remedy(origin, field)}"
        )
    return proxy


def _remedy(origin: str, field: str) -> str:
    return "" if origin == field else f"; or set {field}: {NO_PROXY} to do without"


def _named(scheme: str, first: Sequence[str]) -> tuple[str, str]:
    """What the environment says of a scheme, and the variable that does; empty where none does."""
    for name in (*first, f"{scheme}_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            if variable in os.environ:
                if os.environ[variable].strip():
                    return os.environ[variable].strip(), variable
                break  # set to nothing, which hides the other one
    return "", ""


def _variable(name: str) -> str:
    return os.environ.get(name, os.environ.get(name.upper(), ""))


def is_exempt(url: httpx.URL, exemptions: str) -> bool:
    """Whether ``NO_PROXY`` is about a server.

    Args:
        url: of the server.
        exemptions: names, which stand for what is below them as well, addresses and networks such
            as ``10.0.0.0/8``, each with a port where one is meant, or ``*``; separated by commas or
            blanks. What cannot be understood is about nobody.
    """
    host = url.host.lower().rstrip(".")
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return any(_is_about(entry, host, port) for entry in re.split(r"[,\s]+", exemptions) if entry)


def _is_about(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    name, its_port = _split(entry.lower().rpartition("://")[2])
    if its_port not in (None, port):
        return False
    try:
        network = ip_network(name, strict=False)
    except ValueError:
        pass
    else:
        try:
            return ip_address(host) in network
        except ValueError:
            return False
    name = name.strip(".")
    if "*" in name:
        return fnmatchcase(host, name)
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, int | None]:
    """The name of an entry and its port; IPv6 addresses have colons of their own."""
    found = re.fullmatch(r"\[(.*)\](?::(\d+))?|([^:]*):(\d+)", entry.rstrip("/"))
    if found is None:
        return entry.rstrip("/"), None
    name, port = (found[1], found[2]) if found[1] is not None else (found[3], found[4])
    return name, int(port) if port else None
