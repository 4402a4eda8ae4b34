"""What the exit codes of `sinfer` mean, and which error ends in which."""

from __future__ import annotations

from sinfer.errors import AccessError, ConfigError, SinferError, UnavailableError

OK = 0
"""It worked."""
FAILED = 1
"""It ran, and something did not come out right; the text says what."""
USAGE = 2
"""The command line is wrong."""
CONFIGURATION = 3
"""A setting, task or product is wrong, credentials among them."""
UNREACHABLE = 4
"""A server that sinfer needs does not answer."""
INTERRUPTED = 130
"""Ctrl-C."""


def exit_code_for(error: SinferError) -> int:
    """The exit code of a command that ended in this error."""
    if isinstance(error, ConfigError | AccessError):
        return CONFIGURATION
    if isinstance(error, UnavailableError):
        return UNREACHABLE
    return FAILED
