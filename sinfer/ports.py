"""Ports that cannot be listened on, told with the setting that moves them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sinfer.errors import ConfigError, SinferError, UnavailableError


@contextmanager
def listening(address: str, port: int, moved_by: str) -> Iterator[None]:
    """Begin to listen within the block.

    Args:
        address: to listen on.
        port: to listen on.
        moved_by: the option or setting that names another port.

    Raises:
        UnavailableError: another process has the port.
        ConfigError: this process may not listen there, or the address is none of this machine.
    """
    try:
        yield
    except OSError as error:
        raise port_problem(error, address, port, moved_by) from error


def port_problem(error: OSError, address: str, port: int, moved_by: str) -> SinferError:
    """What an error means that came of listening; see ``listening``."""
    if error.errno == errno.EADDRINUSE:
        return port_taken(port, moved_by)
    text = f"port {port} of {address} cannot be listened on ({error.strerror or error})"
    return ConfigError(f"{text}; {moved_by} names another")


def port_taken(port: int, moved_by: str) -> UnavailableError:
    """The error for a port that another process has."""
    return UnavailableError(
        f"port {port} is taken: is it running already? {moved_by} names another port"
    )
