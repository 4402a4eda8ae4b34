"""Files that hold keys of NATS users, and what is wrong with them when they cannot be used.

No error here quotes what a file holds, nor what was given in place of its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_JWT = re.compile(rb"-----BEGIN NATS USER JWT-----\s+(\S+)\s+-")
_SEED = re.compile(rb"-----BEGIN USER NKEY SEED-----\s+(\S+)\s+-")
_LOOKS_LIKE_CONTENT = re.compile(r"\s*(-----BEGIN|S[A-Z2-7]{57}\s*$)")


class Creds(NamedTuple):
    """What a ``.creds`` file holds.

    Attributes:
        jwt: the user's JWT.
        seed: the user's nkey seed.
    """

    jwt: str
    seed: str

    def __repr__(self) -> str:
        return "<Creds>"


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: it cannot be read; the text says why, for the user who named it.
    """
    if _LOOKS_LIKE_CONTENT.match(str(path)):
        raise ValueError("holds the key itself; write that into a file, and name the file here")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def read_creds(path: Path) -> Creds:
    """The JWT and the seed of a credentials file.

    Raises:
        ValueError: it cannot be read or holds none.
    """
    content = read_file(path)
    jwt, seed = _JWT.search(content), _SEED.search(content)
    if jwt is None or seed is None:
        raise ValueError(f"{str(path)!r} is no credentials file with a user's JWT and seed")
    return Creds(jwt[1].decode("ascii", "replace"), _user_seed(seed[1], path))


def read_seed(path: Path) -> str:
    """The seed of an nkey file.

    Raises:
        ValueError: it cannot be read or holds no seed of a user.
    """
    return _user_seed(read_file(path).strip(), path)


def sign(seed: str, nonce: str) -> bytes:
    """A signature of the server's challenge."""
    import nkeys

    pair = nkeys.from_seed(bytearray(seed.encode()))
    try:
        return bytes(pair.sign(nonce.encode()))
    finally:
        pair.wipe()


def _user_seed(seed: bytes, path: Path) -> str:
    import nkeys  # takes its time, and few need it

    try:
        pair = nkeys.from_seed(bytearray(seed))
        is_user = pair.public_key.startswith(b"U")
        pair.wipe()
    except (nkeys.NkeysError, ValueError):
        is_user = False
    if not is_user:
        raise ValueError(f"{str(path)!r} holds no seed of a user (SU...)")
    return seed.decode()
