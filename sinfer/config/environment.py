"""Environment variables that are not meant for sinfer, though their names say so.

Kubernetes gives every pod variables for each Service of its namespace (service links): a Service
named ``sinfer-redis`` sets ``SINFER_REDIS_PORT=tcp://10.0.0.11:6379`` and a dozen more, one named
``flower`` sets ``FLOWER_PORT`` likewise. And Celery takes its broker from ``CELERY_BROKER_URL``
before all else, whoever set that and what for, and its settings and loader likewise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, MutableMapping

_log = logging.getLogger(__name__)

_ADDRESS = r"[0-9a-f:.]*[:.][0-9a-f:.]*|None"
_NUMBER = r"\d{1,5}"
_PROTOCOL = r"tcp|udp|sctp"
_LINKS = [
    (re.compile(rf"(\w+_)?{name}", re.ASCII | re.IGNORECASE), re.compile(value, re.IGNORECASE))
    for name, value in (
        ("SERVICE_HOST", _ADDRESS),
        (r"SERVICE_PORT(_\w+)?", _NUMBER),
        (rf"PORT(_\d+_({_PROTOCOL}))?", rf"({_PROTOCOL})://\S+"),
        (rf"PORT_\d+_({_PROTOCOL})_PROTO", _PROTOCOL),
        (rf"PORT_\d+_({_PROTOCOL})_PORT", _NUMBER),
        (rf"PORT_\d+_({_PROTOCOL})_ADDR", _ADDRESS),
    )
]
"""How the names of such variables end, and what their values look like."""

_OURS = "SINFER_BROKER_URL names the broker, and sinfer keeps no results in a backend"
_OF_CELERY = {
    "CELERY_BROKER_URL": _OURS,
    "CELERY_BROKER_READ_URL": _OURS,
    "CELERY_BROKER_WRITE_URL": _OURS,
    "CELERY_RESULT_BACKEND": _OURS,
    "CELERY_CONFIG_MODULE": "sinfer configures Celery by itself",
    "CELERY_LOADER": "sinfer configures Celery by itself",
}
"""Variables that are meant for other applications of Celery, and why they do not count here."""


def is_service_link(name: str, value: str, prefix: str) -> bool:
    """Whether a variable is one that Kubernetes sets for a Service.

    Args:
        name: of the variable; it begins with the prefix.
        value: of the variable.
        prefix: ends with an underscore, as in ``SINFER_``.
    """
    rest = name[len(prefix) :]
    return any(ending.fullmatch(rest) and like.fullmatch(value) for ending, like in _LINKS)


def without_service_links(environ: MutableMapping[str, str]) -> None:
    """Take out what Kubernetes sets for a Service named ``flower``."""
    for name in [name for name in environ if name.startswith("FLOWER_")]:
        if is_service_link(name, environ[name], "FLOWER_"):
            del environ[name]


def tell_ignored(environ: Mapping[str, str]) -> None:
    """Tell of variables that are meant for other applications of Celery, as sinfer's does not
    follow them. They stay: a product may have such an application."""
    for name, why in _OF_CELERY.items():
        if environ.get(name, ""):
            _log.warning("%s (or celery's option for it) is ignored: %s", name, why)
