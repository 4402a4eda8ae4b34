"""What nats-py does wrong and sinfer's client puts right.

When a test of nats-py itself fails, nats-py has mended it: let go of what ``sinfer.nats.client``
does about it.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client, Srv
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError

from sinfer.nats.client import CarefulClient, NoTlsError, _Transport

ODD_LINE = b"MSG in.a\x0cb 1 2\r\nhi\r\n"
"""A subject with a form feed, which is none of the characters that end a word."""


def careful(*, demands_tls: bool = False) -> CarefulClient:
    return CarefulClient(demands_tls=demands_tls, begins_with_tls=False)


async def subjects_of(client: Client, lines: bytes) -> list[str]:
    subscription = await _subscribed(client)
    await client._ps.parse(lines)
    return [subscription._pending_queue.get_nowait().subject]


async def _subscribed(client: Client) -> Subscription:
    subscription = Subscription(client, 1, "in.>")
    client._subs[1] = subscription
    return subscription


async def test_a_subject_may_have_a_form_feed() -> None:
    assert await subjects_of(careful(), ODD_LINE) == ["in.a\x0cb"]


async def test_nats_py_itself_still_takes_it_for_a_broken_protocol() -> None:
    with pytest.raises(ProtocolError):
        await subjects_of(Client(), ODD_LINE)


@pytest.mark.parametrize("line", [b"MSG in.a 1 back 2\r\nhi\r\n", b"MSG in.a 1 2\r\nhi\r\n"])
async def test_plain_lines_are_read_by_both(line: bytes) -> None:
    assert await subjects_of(careful(), line) == await subjects_of(Client(), line) == ["in.a"]


async def test_headers_are_read_through_both_parsers() -> None:
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"
    line = b"HMSG in.a 1 %d %d\r\n%bhi\r\n" % (len(block), len(block) + 2, block)
    for client in (careful(), Client()):
        subscription = await _subscribed(client)
        await client._ps.parse(line)
        message = subscription._pending_queue.get_nowait()
        assert (message.headers, message.data) == ({"A": "1"}, b"hi")


async def test_a_subject_may_be_any_bytes() -> None:
    assert await subjects_of(careful(), b"MSG in.\xff 1 2\r\nhi\r\n") == ["in.\ufffd"]


async def test_nats_py_itself_still_wants_subjects_in_utf_8() -> None:
    with pytest.raises(UnicodeDecodeError):
        await subjects_of(Client(), b"MSG in.\xff 1 2\r\nhi\r\n")


async def test_nats_py_itself_still_stumbles_over_an_odd_first_line() -> None:
    """Headers are read by ``parse_headers`` for this alone."""
    with pytest.raises(UnicodeDecodeError):
        await Client()._process_headers(b"NATS/1.0 \xff\xff\xff\r\nA: 1\r\n\r\n")


class Odd(TcpTransport):
    """A connection of which reading raises what nobody expects."""

    def at_eof(self) -> bool:
        return False

    async def read(self, buffer_size: int) -> bytes:
        raise RuntimeError("odd")


async def read_on(client: Client) -> list[str]:
    """Read until it ends; returns with which errors the client was told to reconnect."""
    met: list[str] = []

    async def note(error: Exception) -> None:
        met.append(type(error).__name__)

    client._transport = Odd()  # type: ignore[no-untyped-call]
    client._status = Client.CONNECTED
    client._process_op_err = note  # type: ignore[method-assign,assignment]
    async with asyncio.timeout(5):
        await client._read_loop()
    return met


async def test_an_end_of_reading_ends_the_connection() -> None:
    assert await read_on(careful()) == ["UnexpectedEOF"]


async def test_nats_py_itself_still_stops_reading_in_silence() -> None:
    client = Client()
    assert await read_on(client) == []
    assert client.is_connected


def before_login(client: Client) -> Client:
    """The server has said that it does without TLS."""
    client._current_server = Srv(urlsplit("tls://me:s3cret@127.0.0.1:4222"))  # type: ignore[arg-type]
    client._server_info = {}
    client._auth_configured = True
    client.options = dict.fromkeys(("verbose", "pedantic", "token", "name", "no_echo"))
    client.options |= {"user": None, "password": None}
    return client


def test_nothing_is_said_to_a_server_without_tls() -> None:
    with pytest.raises(NoTlsError):
        before_login(careful())._connect_command()
    with pytest.raises(NoTlsError):
        before_login(careful(demands_tls=True))._connect_command()


def test_nats_py_itself_still_sends_the_password_in_clear() -> None:
    assert b"s3cret" in before_login(Client())._connect_command()


class FailingTls:
    """A bare connection with which TLS fails."""

    def __init__(self) -> None:
        self.transport = self
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


@pytest.mark.parametrize("is_careful", [True, False])
async def test_a_connection_with_which_tls_failed_is_closed_and_nats_py_itself_still_keeps_it(
    is_careful: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ssl.SSLError("no")

    monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", fail)
    transport: Any = _Transport() if is_careful else TcpTransport()  # type: ignore[no-untyped-call]
    bare = transport._io_writer = FailingTls()
    with pytest.raises(ssl.SSLError):
        await transport.connect_tls("host", ssl.create_default_context(), 1000, 5)
    assert bare.is_aborted == is_careful
    assert (transport._io_writer is None) == is_careful
