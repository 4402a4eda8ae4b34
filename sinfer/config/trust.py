"""The certificate authorities that HTTPS and gRPC clients trust, checked before they are used.

A task's own ``ca_file`` counts first, then the files that ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``
name, then those that come with httpx. OpenSSL takes a file that is missing for one that holds
nothing, and then no server is trusted without a word why; so it is looked for here.
"""

from __future__ import annotations

import os
import re
import ssl
from functools import lru_cache
from pathlib import Path

from sinfer.errors import ConfigError

FILE_VARIABLE = "SSL_CERT_FILE"
DIRECTORY_VARIABLE = "SSL_CERT_DIR"

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
"""How OpenSSL finds a certificate in a directory."""


def trust(verify: bool, ca_file: Path | None, field: str) -> ssl.SSLContext:
    """The TLS context for a client, shared by all of a process: to read the authorities is slow.

    Args:
        verify: whether the server's certificate must be valid.
        ca_file: the authorities to trust instead of the usual ones.
        field: how errors call ``ca_file``.

    Raises:
        ConfigError: the authorities cannot be read; the text names who names them.
    """
    file, directories = ("", "") if ca_file or not verify else _of_environment()
    return _context(verify, ca_file, field, file, directories)


def authorities(ca_file: Path | None, field: str) -> bytes | None:
    """The same in PEM form, for clients that do not use Python's TLS; None for their own ones.

    Raises:
        ConfigError: they cannot be read.
    """
    file, directories = ("", "") if ca_file else _of_environment()
    if ca_file is None and not file and not directories:
        return None
    _context(True, ca_file, field, file, directories)  # which says what is wrong
    path = ca_file or (Path(file) if file else None)
    paths = [path] if path else []
    paths += [found for directory in _split(directories) for found in _certificates_in(directory)]
    try:
        return b"\n".join(found.read_bytes() for found in paths)
    except OSError as error:
        raise ConfigError(f"{DIRECTORY_VARIABLE}: {error.filename}: {error.strerror}") from None


def environment_problem() -> str:
    """Behind a text about a certificate that is not accepted: what is wrong with the authorities
    that the environment names, which clients that do not come here silently leave out. Empty when
    nothing is."""
    try:
        trust(True, None, "")
    except ConfigError as error:
        return f" ({error})"
    return ""


def _of_environment() -> tuple[str, str]:
    return os.environ.get(FILE_VARIABLE, ""), os.environ.get(DIRECTORY_VARIABLE, "")


@lru_cache(maxsize=32)
def _context(
    verify: bool, ca_file: Path | None, field: str, file: str, directories: str
) -> ssl.SSLContext:
    import httpx  # takes its time, and few need it

    if not verify:
        return httpx.create_ssl_context(verify=False, trust_env=False)
    if ca_file is not None:
        return _of_file(ca_file, field)
    if not file and not directories:
        return httpx.create_ssl_context(trust_env=False)
    context = _of_file(Path(file), FILE_VARIABLE) if file else None
    found = [path for directory in _split(directories) for path in _certificates_in(directory)]
    if context is None:
        if not found:
            raise ConfigError(
                f"{DIRECTORY_VARIABLE}: {directories!r} holds no certificates under the names that"
                f" OpenSSL looks for, so that no server would be trusted; run `openssl rehash` on"
                f" it, correct it, or unset {DIRECTORY_VARIABLE}"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if found:
        context.load_verify_locations(capath=directories)
    return context


def _of_file(path: Path, name: str) -> ssl.SSLContext:
    what = f"{name}: {str(path)!r}"
    remedy = f"; correct it, or unset {name}" if name == FILE_VARIABLE else ""
    try:
        return ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        reason = f"there is no file {str(path)!r}"
        raise ConfigError(f"{name}: {reason}{remedy}") from None
    except ssl.SSLError:
        raise ConfigError(f"{what} holds no certificate (PEM){remedy}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{what} cannot be read: {reason}{remedy}") from None


def _split(directories: str) -> list[Path]:
    return [Path(part) for part in directories.split(os.pathsep) if part]


def _certificates_in(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if _HASHED.fullmatch(path.name))
    except OSError:
        return []
