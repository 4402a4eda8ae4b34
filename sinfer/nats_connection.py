"""Connecting to NATS the way a service needs it: for good, and with a clear error at the start."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from nats.aio.client import Client
from nats.errors import NoServersError

from sinfer.errors import UnavailableError

_log = logging.getLogger(__name__)

OUTBOUND_BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes that may wait for a reconnect; the client's own 2 MiB raises under bursts."""


async def connect(servers: Sequence[str], *, name: str, timeout_s: float = 5.0) -> Client:
    """Connect, and stay connected: once it was up, the connection is re-made for ever.

    Args:
        servers: NATS URLs.
        name: shown by the server's monitoring.
        timeout_s: how long to try one server; each is tried twice.

    Raises:
        UnavailableError: none of the servers answers; the text names them, without passwords.
    """

    shown = ", ".join(re.sub(r"//[^@/]*@", "//", server) for server in servers)

    last_error: Exception | None = None

    async def on_error(error: Exception) -> None:
        nonlocal last_error
        last_error = error
        _log.warning("NATS %s: %s", name, error or type(error).__name__)

    async def on_disconnect() -> None:
        if not client.is_closed:
            _log.warning("NATS %s: disconnected from %s", name, shown)

    async def on_reconnect() -> None:
        _log.info("NATS %s: connected again", name)

    client = Client()
    try:
        await client.connect(
            servers=list(servers),
            name=name,
            connect_timeout=max(1, round(timeout_s)),
            max_reconnect_attempts=1,
            reconnect_time_wait=0.5,  # type: ignore[arg-type]  # seconds, used as they are
            allow_reconnect=True,
            pending_size=OUTBOUND_BUFFER_BYTES,
            error_cb=on_error,
            disconnected_cb=on_disconnect,
            reconnected_cb=on_reconnect,
        )
    except (NoServersError, OSError, TimeoutError) as error:
        cause = last_error or error
        raise UnavailableError(
            f"NATS cannot be reached at {shown} ({cause or type(cause).__name__}); is it running?"
        ) from error
    # With -1 from the start, nats-py would try for ever without a word.
    client.options["max_reconnect_attempts"] = -1
    return client
