"""Connecting to NATS the way a service needs it: for good, and with a clear error at the start."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Sequence

from nats.aio.client import Client
from nats.errors import AuthorizationError
from nats.errors import Error as NatsError

from sinfer.config.jetstream_place import NatsPlace
from sinfer.config.trust import environment_problem
from sinfer.errors import AccessError, UnavailableError
from sinfer.logging.throttled import Throttled
from sinfer.nats.access import NatsAccess
from sinfer.nats.client import NoTlsError
from sinfer.settings import settings, unread

_log = logging.getLogger(__name__)

OUTBOUND_BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes that may wait for a reconnect; the client's own 2 MiB raises under bursts."""

_REFUSAL = re.compile(r"authori[sz]ation|((user|account) )?authentication", re.IGNORECASE)
_NOT_NEEDED = "$SYS.REQ.USER.INFO"
"""Who may not ask this is not told of its account, and that is all."""

_PERMISSION = re.compile(r"permissions violation", re.IGNORECASE)


async def connect(
    to: NatsPlace | Sequence[str],
    *,
    name: str,
    timeout_s: float = 5.0,
    reconnected: Callable[[], None] | None = None,
    access: NatsAccess | None = None,
    forbidden: Callable[[str], None] | None = None,
    lost: Callable[[str], None] | None = None,
) -> Client:
    """Connect, and stay connected: once it was up, the connection is re-made for ever.

    Args:
        to: the servers, and which JetStream is asked through them: their own, where only URLs are
            given.
        name: shown by the server's monitoring.
        timeout_s: how long to try one server.
        reconnected: is called whenever the connection was made anew.
        access: credentials and TLS; by default those of the settings.
        forbidden: is called with what the server says of each permission that is missing, instead
            of a line in the log.
        lost: is called with the reason when the connection is lost, and with an empty one when it
            is made anew.

    Raises:
        UnavailableError: none of the servers answers; the text names them, without passwords.
        AccessError: a server refuses the credentials, or TLS with it fails.
        ConfigError: a file of the settings cannot be used any more.
    """
    place = to if isinstance(to, NatsPlace) else NatsPlace(tuple(to))
    servers = place.servers
    is_usual = access is None and servers == settings().nats_place.servers
    if access is None:
        access = NatsAccess.from_settings(settings())
    shown = ", ".join(re.sub(r"^(\w+://)?.*@", r"\1", server) for server in servers)
    options = access.options(servers)
    client = access.client(place)
    failures: list[Exception] = []
    outage = Throttled(_log)
    is_up = has_failed = False
    met: Exception | None = None

    def explained(errors: Sequence[Exception]) -> UnavailableError:
        for error in errors:
            if (reason := _denial(error, access, servers)) is not None:
                return AccessError(f"NATS at {shown} {reason}")
        reasons = {str(error) or type(error).__name__: None for error in errors}
        return UnavailableError(
            f"NATS cannot be reached at {shown}"
            f" ({'; '.join(reasons) or 'no answer'}); is it running?{access.hint}"
            f"{unread('nats_servers', 'NATS_URL') if is_usual else ''}"
        )

    async def on_error(error: Exception) -> None:
        nonlocal met, has_failed
        if has_failed:
            return
        if not is_up:
            # The client would try again for ever, since that is what it is to do later.
            failures.append(error)
            if len(failures) >= len(servers):
                has_failed = True
                raise explained(failures)
        elif _denial(error, access, servers) is not None:
            met = error
            told = explained([error])
            note_lost(str(told))
            outage.tell(f"{told}; trying again", level=logging.ERROR)
        elif _PERMISSION.search(str(error)):
            if _NOT_NEEDED in str(error).upper():
                return
            if forbidden is not None:
                forbidden(str(error))
            else:
                text = f"NATS {name}: {error}; docs/security.md lists what sinfer needs"
                outage.tell(text, level=logging.ERROR)
        else:
            level = logging.DEBUG if client.is_reconnecting or client.is_closed else logging.WARNING
            _log.log(level, "NATS %s: %s", name, error or type(error).__name__)

    def note_lost(reason: str) -> None:
        if lost is not None:
            lost(reason)

    async def on_disconnect() -> None:
        if is_up and not client.is_closed:
            note_lost(f"NATS at {shown} is disconnected; is it running?")
            _log.warning("NATS %s: disconnected from %s", name, shown)

    async def on_reconnect() -> None:
        outage.over()
        note_lost("")
        _log.info("NATS %s: connected again", name)
        if reconnected is not None:
            reconnected()

    async def on_close() -> None:
        # The server ends connections of users that are revoked or have expired.
        error = client.last_error
        if not is_up or error is None or error is met:
            return
        if _denial(error, access, servers) is not None:
            note_lost(str(explained([error])))
            _log.error("%s; the connection is closed", explained([error]))

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
                closed_cb=on_close,
                **options,
            )
            if not client.is_connected:
                raise NatsError("it ended the connection without a word")
    except UnavailableError:
        await client.close()
        raise
    except (NatsError, OSError, TimeoutError) as error:
        has_failed = True
        failures.append(error)
        await client.close()
        raise explained(failures) from error
    is_up = True
    return client


def _denial(error: Exception, access: NatsAccess, servers: Sequence[str]) -> str | None:
    """What to tell of an error that only a change of settings puts right; None for others."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not accepted ({error.verify_message}); set"
            " SINFER_NATS_TLS_CA to the CA that signed it, or SINFER_NATS_TLS_HOSTNAME to its name"
            f"{environment_problem()}"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"breaks off TLS ({error.reason or error}); does it demand a client certificate? see"
            " SINFER_NATS_TLS_CERT and SINFER_NATS_TLS_KEY"
        )
    if isinstance(error, NoTlsError):
        return (
            "offers no TLS, and nothing is sent to it without; have it demand TLS, set"
            " SINFER_NATS_TLS_HANDSHAKE_FIRST if it begins with TLS, or take tls:// and"
            " SINFER_NATS_TLS_* out of the settings"
        )
    text = str(error).removeprefix("nats: ").strip("'")
    if text.startswith("SINFER_NATS_CREDS"):
        return f"cannot be shown credentials: {text}"
    if isinstance(error, AuthorizationError) or (
        isinstance(error, NatsError) and _REFUSAL.match(text)
    ):
        return (
            f"refuses {access.shown(servers)} ({text}); see SINFER_NATS_CREDS, _NKEY_SEED, _TOKEN,"
            " _USER and _PASSWORD, or the user in the URL"
        )
    return None
