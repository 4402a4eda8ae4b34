"""Servers that demand credentials and TLS, with keys and certificates that are made on the spot."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import nkeys
import trustme

from sinfer.embedded.servers import EmbeddedServer, NatsServer, RedisServer

NOBODY = "default off"

PREFIXES = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


def as_user(server: NatsServer, user: str) -> list[str]:
    """The addresses of a server for a user whose password is ``x``."""
    return [server.url.replace("//", f"//{user}:x@")]


class Certificates:
    """A CA of its own, a certificate for 127.0.0.1 and one for a client, as files.

    Attributes:
        ca, cert, key: of the server.
        client: certificate and key of a client in one file.
        other_ca: a CA that signed none of them.
    """

    def __init__(self, directory: Path, name: str = "127.0.0.1") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self.cert, self.key = directory / "server.pem", directory / "server.key"
        self.client = directory / "client.pem"
        self.other_ca = directory / "other_ca.pem"
        server = authority.issue_cert(name)
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.other_ca)
        server.cert_chain_pems[0].write_to_path(self.cert)
        server.private_key_pem.write_to_path(self.key)
        authority.issue_cert("sinfer").private_key_and_cert_chain_pem.write_to_path(self.client)

    def client_context(self) -> ssl.SSLContext:
        """What a client of the servers uses."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.client)
        return context

    def nats(self, *, verify: bool = False, handshake_first: bool = False) -> str:
        """Lines of a NATS server's configuration."""
        further = [f'ca_file: "{self.ca}", verify: true'] if verify else []
        further += ["handshake_first: true"] if handshake_first else []
        lines = ", ".join([f'cert_file: "{self.cert}", key_file: "{self.key}"', *further])
        return f"tls {{ {lines} }}\n"


class Nkey:
    """A key pair of NATS.

    Args:
        kind: ``operator``, ``account`` or ``user``.
    """

    def __init__(self, kind: str) -> None:
        seed: Any = nkeys.encode_seed(secrets.token_bytes(32), PREFIXES[kind])
        self.seed = bytes(seed).decode()
        self._pair = nkeys.from_seed(bytearray(seed))
        self.public: str = bytes(self._pair.public_key).decode()

    def signed(self, subject: Nkey, kind: str, **nats: Any) -> str:
        """A JWT of NATS about another key, signed by this one."""
        claims = {
            "jti": secrets.token_hex(16),
            "iat": int(time.time()),
            "iss": self.public,
            "sub": subject.public,
            "name": kind,
            "nats": {"type": kind, "version": 2, **nats},
        }
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        signed = f"{_encode(header)}.{_encode(claims)}"
        signature = base64.urlsafe_b64encode(self._pair.sign(signed.encode()))
        return f"{signed}.{signature.decode().rstrip('=')}"


def _encode(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


class OperatorMode(NamedTuple):
    """A NATS server whose users come with JWTs.

    Attributes:
        config: lines of its configuration.
        creds: what a ``.creds`` file of a user holds.
        stranger: the same for a user of an account that the server does not know.
    """

    config: str
    creds: str
    stranger: str


def operator_mode() -> OperatorMode:
    """An operator, a system account, and an account with JetStream and two users."""
    operator, system, account = Nkey("operator"), Nkey("account"), Nkey("account")
    unlimited = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
    ) | {"wildcards": True}
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
    jwts = {
        system.public: operator.signed(system, "account", limits=unlimited),
        account.public: operator.signed(account, "account", limits=unlimited | storage),
    }
    preloaded = "\n".join(f"{key}: {jwt}" for key, jwt in jwts.items())
    config = (
        f"operator: {operator.signed(operator, 'operator', system_account=system.public)}\n"
        f"system_account: {system.public}\n"
        f"resolver: MEMORY\nresolver_preload {{ {preloaded} }}\n"
    )
    user, stranger = Nkey("user"), Nkey("user")
    limits = {"subs": -1, "data": -1, "payload": -1}
    jwt = account.signed(user, "user", **limits)
    # Signed by an account that the server does not know.
    wrong = Nkey("account").signed(stranger, "user", **limits)
    return OperatorMode(config, creds_file(jwt, user.seed), creds_file(wrong, stranger.seed))


def creds_file(jwt: str, seed: str) -> str:
    """The content of a ``.creds`` file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def acl_server(directory: Path, *users: str, **config: str) -> RedisServer:
    """A server that knows these users only, in the words of an ACL file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "users.acl").write_text("".join(f"user {user}\n" for user in (*users, NOBODY)))
    return RedisServer(directory, config={"aclfile": str(directory / "users.acl"), **config})


class TlsProxy(EmbeddedServer):
    """TLS in front of a server that has none: valkey's wheel is built without.

    Args:
        upstream: port of the server.
        certificates: what it shows, and whose clients it lets in.
        knows_clients: whether clients have to show a certificate.
    """

    name = "tls-proxy"

    def __init__(
        self, upstream: int, certificates: Certificates, *, knows_clients: bool = True
    ) -> None:
        self._knows_clients = knows_clients
        self._upstream = upstream
        self._certificates = certificates
        super().__init__()

    def _command(self) -> list[str]:
        program = str(Path(__file__).with_name("tls_proxy.py"))
        files = [self._certificates.cert, self._certificates.key]
        files += [self._certificates.ca] if self._knows_clients else []
        ports = (str(self.port), str(self._upstream))
        return [sys.executable, program, *ports, *map(str, files)]

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"
