"""What sinfer shows to a NATS server to be let in, and what it demands to see."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.errors import Error as NatsError

from sinfer.config.jetstream_place import NatsPlace
from sinfer.config.secret_files import Creds, read_creds, read_seed, sign
from sinfer.config.tls import NO_FILES, TlsFiles
from sinfer.errors import ConfigError
from sinfer.nats.client import CarefulClient
from sinfer.settings import Settings


@dataclass(frozen=True, slots=True)
class NatsTls:
    """What is demanded of TLS.

    Attributes:
        files: certificates; with any, there is no connection without TLS.
        hostname: the name that certificates must have, instead of the one in the URL.
        handshake_first: begin with TLS instead of waiting for the server to ask for it.
    """

    files: TlsFiles = NO_FILES
    hostname: str = ""
    handshake_first: bool = False


class NatsAccess:
    """Credentials and TLS for connections to NATS. One without arguments is for open servers.

    A URL with a user goes before the credentials here, which are then not shown to its server.

    Args:
        user, password: for servers that have users.
        token: for servers that have one token.
        creds: a credentials file; it is read again for each connection, as it may be renewed.
        nkey_seed: a file with the seed of a user's nkey.
        tls: what is demanded of TLS.
    """

    def __init__(
        self,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        creds: Path | None = None,
        nkey_seed: Path | None = None,
        tls: NatsTls = NatsTls(),
    ) -> None:
        self._user, self._password, self._token = user, password, token
        self._creds, self._nkey_seed = creds, nkey_seed
        self._tls, self._tls_hostname = tls.files, tls.hostname
        self._handshake_first = tls.handshake_first

    @classmethod
    def from_settings(cls, settings: Settings) -> NatsAccess:
        """As the process is told."""
        return cls(
            user=settings.nats_user,
            password=settings.nats_password.get_secret_value(),
            token=settings.nats_token.get_secret_value(),
            creds=settings.nats_creds,
            nkey_seed=settings.nats_nkey_seed,
            tls=NatsTls(
                settings.nats_tls,
                settings.nats_tls_hostname,
                settings.nats_tls_handshake_first,
            ),
        )

    @property
    def _demands_tls(self) -> bool:
        return bool(self._tls) or bool(self._tls_hostname) or self._handshake_first

    def shown(self, servers: Sequence[str]) -> str:
        """In words, what these servers are shown."""
        if _have_user(servers):
            return "the user or token in the URL"
        if self._creds is not None:
            return "the credentials of SINFER_NATS_CREDS"
        if self._nkey_seed is not None:
            return "the nkey of SINFER_NATS_NKEY_SEED"
        if self._user:
            return f"the user {self._user!r} of SINFER_NATS_USER"
        return "the token of SINFER_NATS_TOKEN" if self._token else "no credentials"

    @property
    def hint(self) -> str:
        """What may be missing when a server ends the connection without a word."""
        if self._demands_tls and self._tls.cert is None:
            return " does it demand a client certificate (SINFER_NATS_TLS_CERT)?"
        return ""

    def options(self, servers: Sequence[str]) -> dict[str, Any]:
        """Options of ``Client.connect``.

        Raises:
            ConfigError: a file cannot be used any more.
        """
        try:
            return {**self._credentials(servers), **self._tls_options()}
        except ValueError as error:
            raise ConfigError(f"SINFER_NATS: {error}") from None
        except OSError as error:
            raise ConfigError(f"SINFER_NATS_TLS: {error}") from None

    def _credentials(self, servers: Sequence[str]) -> dict[str, Any]:
        if _have_user(servers):
            return {}
        if self._creds is not None:
            keys = _CredsFile(self._creds)
            keys.read()
            return {"user_jwt_cb": keys.jwt, "signature_cb": keys.signature}
        if self._nkey_seed is not None:
            return {"nkeys_seed_str": read_seed(self._nkey_seed)}
        if self._user:
            return {"user": self._user, "password": self._password}
        return {"token": self._token} if self._token else {}

    def _tls_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"tls": self._tls.context()} if self._tls else {}
        if self._tls_hostname:
            options["tls_hostname"] = self._tls_hostname
        if self._handshake_first:
            options["tls_handshake_first"] = True
        return options

    def client(self, place: NatsPlace) -> Client:
        """A client that has yet to connect."""
        return CarefulClient(
            demands_tls=self._demands_tls, begins_with_tls=self._handshake_first, place=place
        )


class _CredsFile:
    """A credentials file that is read whenever a server asks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Creds:
        return read_creds(self._path)

    def _read_now(self) -> Creds:
        try:
            return self.read()
        except ValueError as error:  # the client takes its own errors only, and tries again
            raise NatsError(f"SINFER_NATS_CREDS: {error}") from None

    def jwt(self) -> bytes:
        return self._read_now().jwt.encode()

    def signature(self, nonce: str) -> bytes:
        return base64.b64encode(sign(self._read_now().seed, nonce))


def _have_user(servers: Sequence[str]) -> bool:
    return any(
        "@" in urlsplit(server if "//" in server else f"//{server}").netloc for server in servers
    )
