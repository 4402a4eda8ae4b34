"""Environment variables that are not meant for sinfer, though their names say so.

Kubernetes gives every pod variables for each Service of its namespace (service links): a Service
named ``sinfer-redis`` sets ``SINFER_REDIS_PORT=tcp://10.0.0.11:6379`` and a dozen more, one named
``flower`` sets ``FLOWER_PORT`` likewise. And Celery takes its broker from ``CELERY_BROKER_URL``
before all else, whoever set that and what for.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping

_log = logging.getLogger(__name__)

_LINK_NAME = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.ASCII | re.IGNORECASE,
)
_LINK_VALUE = re.compile(
    r"(tcp|udp|sctp)(://\S+)?|\d{1,5}|[0-9a-f:.]*[:.][0-9a-f:.]*|None", re.IGNORECASE
)
_URL_VALUE = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)

_OF_CELERY = (
    "CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
)  # fmt: skip


def is_service_link(name: str, value: str, prefix: str) -> bool:
    """Whether a variable is one that Kubernetes sets for a Service.

    Args:
        name: of the variable; it begins with the prefix.
        value: of the variable.
        prefix: ends with an underscore, as in ``SINFER_``.
    """
    rest = name[len(prefix) :]
    if rest.upper() == "PORT":  # somebody's own number is none
        return bool(_URL_VALUE.fullmatch(value))
    return bool(_LINK_NAME.fullmatch(rest)) and bool(_LINK_VALUE.fullmatch(value))


def without_strangers(environ: MutableMapping[str, str]) -> None:
    """Take out what would turn Celery or Flower away from sinfer's own settings."""
    for name in [name for name in environ if name.startswith("FLOWER_")]:
        if is_service_link(name, environ[name], "FLOWER_"):
            del environ[name]
    for name in _OF_CELERY:
        if environ.pop(name, ""):
            _log.warning(
                "%s (or celery's option for it) is ignored: SINFER_BROKER_URL names the broker,"
                " and sinfer keeps no results in a backend",
                name,
            )
