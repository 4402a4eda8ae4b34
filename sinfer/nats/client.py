"""nats-py's client, put right where it is careless: with credentials, and with what TLS leaves.

What is overridden here is private; ``private_names`` lists it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from types import FunctionType
from typing import Any
from urllib.parse import ParseResult

from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport
from nats.errors import Error as NatsError
from nats.errors import UnexpectedEOF
from nats.js import JetStreamContext
from nats.protocol import parser

from sinfer.config.jetstream_place import API, NatsPlace
from sinfer.nats.headers import decode_subject, parse_headers

_WORDS = rb"[ \t]+([^ \t\r\n]+)[ \t]+([^ \t\r\n]+)[ \t]+(([^ \t\r\n]+)[ \t]+)?(\d+)"


class _Parser(parser.Parser):
    """Ends a word at a blank, a tab or a line's end, and nowhere else, as servers do.

    nats-py would take a subject with a form feed for a broken protocol, and reconnect to meet the
    same message again. Its expressions are those of a module: here its own code runs with others.
    """

    parse = FunctionType(
        parser.Parser.parse.__code__,
        {
            **vars(parser),
            "MSG_RE": re.compile(rb"\AMSG" + _WORDS + rb"\r\n"),
            "HMSG_RE": re.compile(rb"\AHMSG" + _WORDS + rb"[ \t]+(\d+)\r\n"),
        },
        argdefs=parser.Parser.parse.__defaults__,
    )


class NoTlsError(NatsError):
    """The server offers no TLS, but TLS is demanded."""

    def __str__(self) -> str:
        return "it offers no TLS"


class CarefulClient(Client):
    """Says nothing to a server without TLS where TLS is demanded, and lets go of what failed.

    nats-py takes ``tls://`` for ``nats://`` when the server asks for no TLS, and would send the
    credentials in clear.

    Args:
        demands_tls: whatever the scheme of the URL is.
        begins_with_tls: TLS is there before the server says anything.
        place: says which JetStream is asked; None for the servers' own.

    Attributes:
        place: see above.
    """

    def __init__(
        self, *, demands_tls: bool, begins_with_tls: bool, place: NatsPlace | None = None
    ) -> None:
        super().__init__()
        self.place = place
        self._demands_tls = demands_tls
        self._begins_with_tls = begins_with_tls
        self._ps = _Parser(self)

    def jetstream(self, **options: Any) -> JetStreamContext:
        """The JetStream of the connection's place, and of no other."""
        return super().jetstream(prefix=api_prefix(self), **options)

    @property
    def server_domain(self) -> str:
        """The JetStream domain of the server itself; empty where it has none."""
        return str(self._server_info.get("domain", ""))

    async def _connect_to_server(self, s: Srv) -> None:
        if s.uri.scheme in ("ws", "wss"):
            await super()._connect_to_server(s)
            return
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]
        s.last_attempt = time.monotonic()
        self._transport = _Transport()  # type: ignore[no-untyped-call]
        await self._transport.connect(
            s.uri,
            buffer_size=DEFAULT_BUFFER_SIZE,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _read_loop(self) -> None:
        """nats-py stops reading at whatever it did not expect, and says that all is well."""
        await super()._read_loop()
        if self.is_connected:
            await self._process_op_err(UnexpectedEOF())

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        """nats-py stops reading for good where a first line is odd: one message ends it all."""
        return parse_headers(headers) if headers else None

    def _build_message(
        self,
        sid: int,
        subject: bytes,
        reply: bytes,
        data: bytes,
        headers: dict[str, str] | None,
    ) -> Msg:
        """Likewise where a subject is not UTF-8."""
        return self.msg_class(
            subject=decode_subject(subject),
            reply=decode_subject(reply),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    def _connect_command(self) -> bytes:
        scheme = "" if self._current_server is None else self._current_server.uri.scheme
        has_tls = (
            self._begins_with_tls
            or scheme == "wss"
            or (scheme != "ws" and bool(self._server_info.get("tls_required")))
        )
        if not has_tls and (self._demands_tls or scheme == "tls"):
            raise NoTlsError
        return super()._connect_command()


def api_prefix(client: Client) -> str:
    """What requests to the JetStream of a connection begin with."""
    place = client.place if isinstance(client, CarefulClient) else None
    return API if place is None else place.api_prefix


def is_imported(client: Client) -> bool:
    """Whether the JetStream of a connection is imported from another account, where subjects may
    be others."""
    place = client.place if isinstance(client, CarefulClient) else None
    return place is not None and bool(place.prefix)


class _Transport(TcpTransport):
    """Lets go of a connection with which TLS failed, and ends quietly where the server does."""

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,
        connect_timeout: int,
    ) -> None:
        bare = self._io_writer
        assert bare is not None
        reader = asyncio.StreamReader(limit=buffer_size)
        protocol = _TlsProtocol(reader)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_timeout):
                transport = await loop.start_tls(
                    bare.transport,
                    protocol,
                    ssl_context,
                    server_hostname=uri if isinstance(uri, str) else uri.hostname,
                )
        except BaseException:
            # To wait until it is closed, as nats-py does later, would take forever.
            bare.transport.abort()
            self._io_reader = self._io_writer = None
            raise
        assert transport is not None
        reader.set_transport(transport)
        self._io_reader = reader
        self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)


class _TlsProtocol(asyncio.StreamReaderProtocol):
    """A connection that ends as a whole when the server ends its half: TLS knows no other way."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False
