"""Connecting to NATS the way a service needs it: for good, and with a clear error at the start."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence

from nats.aio.client import Client
from nats.errors import Error as NatsError

from sinfer.errors import UnavailableError

_log = logging.getLogger(__name__)

OUTBOUND_BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes that may wait for a reconnect; the client's own 2 MiB raises under bursts."""


async def connect(
    servers: Sequence[str],
    *,
    name: str,
    timeout_s: float = 5.0,
    reconnected: Callable[[], None] | None = None,
) -> Client:
    """Connect, and stay connected: once it was up, the connection is re-made for ever.

    Args:
        servers: NATS URLs.
        name: shown by the server's monitoring.
        timeout_s: how long to try one server.
        reconnected: is called whenever the connection was made anew.

    Raises:
        UnavailableError: none of the servers answers; the text names them, without passwords.
    """
    shown = ", ".join(re.sub(r"//[^@/]*@", "//", server) for server in servers)
    client = Client()
    failures: list[Exception] = []
    is_up = False

    def unavailable() -> UnavailableError:
        reasons = {str(error) or type(error).__name__: None for error in failures}
        return UnavailableError(
            f"NATS cannot be reached at {shown}"
            f" ({'; '.join(reasons) or 'no answer'}); is it running?"
        )

    async def on_error(error: Exception) -> None:
        if is_up:
            level = logging.DEBUG if client.is_reconnecting else logging.WARNING
            _log.log(level, "NATS %s: %s", name, error or type(error).__name__)
            return
        # The client would try again for ever, since that is what it is to do later.
        failures.append(error)
        if len(failures) >= len(servers):
            raise unavailable()

    async def on_disconnect() -> None:
        if is_up and not client.is_closed:
            _log.warning("NATS %s: disconnected from %s", name, shown)

    async def on_reconnect() -> None:
        _log.info("NATS %s: connected again", name)
        if reconnected is not None:
            reconnected()

    try:
        async with asyncio.timeout(timeout_s * len(servers)):
            await client.connect(
                servers=list(servers),
                name=name,
                connect_timeout=max(1, round(timeout_s)),
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.5,  # type: ignore[arg-type]  # seconds, used as they are
                allow_reconnect=True,
                pending_size=OUTBOUND_BUFFER_BYTES,
                error_cb=on_error,
                disconnected_cb=on_disconnect,
                reconnected_cb=on_reconnect,
            )
    except UnavailableError:
        await client.close()
        raise
    except (NatsError, OSError, TimeoutError) as error:
        failures.append(error)
        await client.close()
        raise unavailable() from error
    is_up = True
    return client
