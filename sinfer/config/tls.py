"""Certificates for TLS connections: the files that a user names, checked before they are used."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from sinfer.config.secret_files import read_file


class TlsFiles(NamedTuple):
    """Files in PEM form; what is None is left to the system.

    Attributes:
        ca: certificates that sign those of servers.
        cert: the certificate that is shown to servers.
        key: its private key; in the file of the certificate by default.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def __bool__(self) -> bool:
        return any(path is not None for path in self)

    def context(self) -> ssl.SSLContext:
        """For a client that checks the server's certificate and its name.

        Raises:
            OSError: a file is not what it should be; see ``check``.
        """
        context = ssl.create_default_context(cafile=self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        return context

    def redis_options(self) -> dict[str, str]:
        """The same as options of redis-py and of kombu's transport for Redis."""
        options = {"ssl_cert_reqs": "required"}
        for name, path in zip(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), self, strict=True):
            if path is not None:
                options[name] = str(path)
        return options

    def check(self, name: str) -> None:
        """Make sure that the files can be used.

        Args:
            name: what the settings of the files begin with.

        Raises:
            ValueError: they cannot; the text names the setting and the remedy.
        """
        for setting, path in zip(("ca", "cert", "key"), self, strict=True):
            if path is not None:
                try:
                    read_file(path)
                except ValueError as error:
                    raise ValueError(f"{name}_{setting}: {error}") from None
        if self.cert is None and self.key is not None:
            raise ValueError(f"{name}_key: give {name}_cert as well, its certificate")
        try:
            ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError:
            raise ValueError(f"{name}_ca: {str(self.ca)!r} holds no certificate (PEM)") from None
        try:
            self.context()
        except ValueError as error:
            raise ValueError(f"{name}_key: {error}") from None
        except ssl.SSLError as error:
            raise ValueError(
                f"{name}_cert: {str(self.cert)!r} holds no certificate (PEM) that goes with its"
                f" private key ({error.reason or 'not understood'})"
            ) from None


NO_FILES = TlsFiles()


def _no_password() -> str:
    """Nobody is there to be asked when a service starts."""
    raise ValueError("the private key has a password; a service needs one without")
