"""Connecting to NATS the way a service needs it: for good, and with a clear error at the start."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def _no_notice(_: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Notices:
    """Who is told what of a connection.

    Attributes:
        reconnected: is called whenever the connection was made again.
        forbidden: is called with what the server says of each permission that is missing, instead
            of a line in the log.
        lost: is called with the reason when the connection is lost, and with an empty one when it
            is made again.
    """

    reconnected: Callable[[], None] | None = None
    forbidden: Callable[[str], None] | None = None
    lost: Callable[[str], None] = _no_notice


async def connect(
    to: NatsPlace | Sequence[str],
    *,
    name: str,
    timeout_s: float = 5.0,
    access: NatsAccess | None = None,
    notices: Notices = Notices(),
) -> Client:
    """Connect, and stay connected: once it was up, the connection is made again forever.

    Args:
        to: the servers, and which JetStream is asked through them: their own, where only URLs are
            given.
        name: shown by the server's monitoring.
        timeout_s: how long to try one server.
        access: credentials and TLS; by default those of the settings.
        notices: who is told of what becomes of it.

    Raises:
        UnavailableError: none of the servers answers; the text names them, without passwords.
        AccessError: a server refuses the credentials, or TLS with it fails.
        ConfigError: a file of the settings cannot be used any more.
    """
    place = to if isinstance(to, NatsPlace) else NatsPlace(tuple(to))
    return await _Connection(place, name, access, notices).open(timeout_s)


class _Connection:
    """A connection, and what its client says of it."""

    def __init__(
        self, place: NatsPlace, name: str, access: NatsAccess | None, notices: Notices
    ) -> None:
        self._servers = place.servers
        self._is_usual = access is None and place.servers == settings().nats_place.servers
        self._access = access or NatsAccess.from_settings(settings())
        self._shown = ", ".join(re.sub(r"^(\w+://)?.*@", r"\1", url) for url in place.servers)
        self._options = self._access.options(place.servers)
        self._client = self._access.client(place)
        self._name = name
        self._notices = notices
        self._failures: list[Exception] = []
        self._outage = Throttled(_log)
        self._is_up = self._has_failed = False
        self._met: Exception | None = None

    async def open(self, timeout_s: float) -> Client:
        client = self._client
        try:
            async with asyncio.timeout(timeout_s * len(self._servers)):
                await client.connect(
                    servers=list(self._servers),
                    name=self._name,
                    connect_timeout=max(1, round(timeout_s)),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,  # type: ignore[arg-type]  # seconds, used as they are
                    allow_reconnect=True,
                    pending_size=OUTBOUND_BUFFER_BYTES,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                    closed_cb=self._on_close,
                    **self._options,
                )
                if not client.is_connected:
                    raise NatsError("it ended the connection without a word")
        except UnavailableError:
            await client.close()
            raise
        except (NatsError, OSError, TimeoutError) as error:
            self._has_failed = True
            self._failures.append(error)
            await client.close()
            raise self._explained(self._failures) from error
        self._is_up = True
        return client

    def _explained(self, errors: Sequence[Exception]) -> UnavailableError:
        for error in errors:
            if (reason := self._denial(error)) is not None:
                return AccessError(f"NATS at {self._shown} {reason}")
        reasons = {str(error) or type(error).__name__: None for error in errors}
        return UnavailableError(
            f"NATS cannot be reached at {self._shown}"
            f" ({'; '.join(reasons) or 'no answer'}); is it running?{self._access.hint}"
            f"{unread('nats_servers', 'NATS_URL') if self._is_usual else ''}"
        )

    def _denial(self, error: Exception) -> str | None:
        return _denial(error, self._access, self._servers)

    async def _on_error(self, error: Exception) -> None:
        if self._has_failed:
            return
        if not self._is_up:
            # The client would try again forever, since that is what it is to do later.
            self._failures.append(error)
            if len(self._failures) >= len(self._servers):
                self._has_failed = True
                raise self._explained(self._failures)
        elif self._denial(error) is not None:
            self._met = error
            told = self._explained([error])
            self._notices.lost(str(told))
            self._outage.tell(f"{told}; trying again", level=logging.ERROR)
        elif _PERMISSION.search(str(error)):
            self._note_forbidden(str(error))
        else:
            is_over = self._client.is_reconnecting or self._client.is_closed
            level = logging.DEBUG if is_over else logging.WARNING
            _log.log(level, "NATS %s: %s", self._name, error or type(error).__name__)

    def _note_forbidden(self, said: str) -> None:
        if _NOT_NEEDED in said.upper():
            return
        if self._notices.forbidden is not None:
            self._notices.forbidden(said)
        else:
            text = f"NATS {self._name}: {said}; docs/security.md lists what sinfer needs"
            self._outage.tell(text, level=logging.ERROR)

    async def _on_disconnect(self) -> None:
        if self._is_up and not self._client.is_closed:
            self._notices.lost(f"NATS at {self._shown} is disconnected; is it running?")
            _log.warning("NATS %s: disconnected from %s", self._name, self._shown)

    async def _on_reconnect(self) -> None:
        self._outage.over()
        self._notices.lost("")
        _log.info("NATS %s: connected again", self._name)
        if self._notices.reconnected is not None:
            self._notices.reconnected()

    async def _on_close(self) -> None:
        # The server ends connections of users that are revoked or have expired.
        error = self._client.last_error
        if not self._is_up or error is None or error is self._met:
            return
        if self._denial(error) is not None:
            self._notices.lost(str(self._explained([error])))
            _log.error("%s; the connection is closed", self._explained([error]))


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
