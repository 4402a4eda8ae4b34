"""The URL of a Redis that fails over: Sentinels, the name of what they watch, and the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("sentinel", "sentinels")

_PORT = 26379

_FORM = "write sentinel://user:password@host:26379,other:26379/name/0, or sentinels:// for TLS"

_PARAMETERS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """``sentinel://user:password@host:26379,other:26379/name/0``; ``sentinels://`` for TLS.

    User and password are those of Redis. Those of the Sentinels themselves, where they want any,
    are the parameters ``sentinel_username`` and ``sentinel_password``.

    Attributes:
        sentinels: hosts and ports of the Sentinels.
        name: what they call the primary.
        database: its number.
        username, password: for Redis; None where there is none.
        sentinel_username, sentinel_password: for the Sentinels, likewise.
        has_tls: whether all of them speak TLS.
    """

    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int
    username: str | None = None
    password: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    has_tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ValueError: it is none of this kind; the text has the remedy.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ValueError(_FORM)
        if ";" in url:
            raise ValueError(f"{_FORM}: commas, not ';', are between the Sentinels")
        who, _, hosts = parts.netloc.rpartition("@")
        user, colon, password = who.partition(":")
        name, _, database = parts.path.strip("/").partition("/")
        if not name or not hosts:
            raise ValueError(f"{_FORM}: it names no {'primary' if hosts else 'Sentinel'}")
        if database and not database.isdigit():
            raise ValueError(f"{_FORM}: {database!r} is no number of a database")
        parameters = dict(parse_qsl(parts.query))
        if unknown := parameters.keys() - set(_PARAMETERS):
            raise ValueError(f"parameter {min(unknown)!r} is none of {', '.join(_PARAMETERS)}")
        return cls(
            sentinels=tuple(_address(host) for host in hosts.split(",")),
            name=unquote(name),
            database=int(database or 0),
            username=unquote(user) or None,
            password=unquote(password) if colon else None,
            sentinel_username=parameters.get(_PARAMETERS[0]),
            sentinel_password=parameters.get(_PARAMETERS[1]),
            has_tls=parts.scheme == "sentinels",
        )


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError(f"{_FORM}: {host!r} is no host and port")
    return parts.hostname, port or _PORT
