"""What all HTTP clients do on the wire: connections, headers, TLS, credentials."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from sinfer.errors import (
    ConfigError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference import JsonClient
from tests.support.http_server import Exchange, ScriptedServer

Make = Callable[..., JsonClient]


async def test_calls_in_a_row_share_a_connection(client: Make, http_server: ScriptedServer) -> None:
    made = client(type="json", url=http_server.url)
    for n in range(5):
        http_server.body = [n]
        assert await made.infer({"n": n}) == [n]
    assert http_server.connections == 1


@pytest.mark.parametrize("status", [200, 500])
async def test_a_server_that_closes_without_saying_so_costs_no_call(
    client: Make, http_server: ScriptedServer, status: int
) -> None:
    made = client(type="json", url=http_server.url)

    def answer_and_close(exchange: Exchange) -> None:
        http_server.answer = lambda exchange: exchange.reply(200, b"[2]")
        exchange.reply_and_close(status, b"[1]")

    for _ in range(30):
        http_server.answer = answer_and_close
        with suppress(InferenceServerError):
            assert await made.infer([]) == [1]
        assert await made.infer([]) == [2]
    assert len(http_server.requests) == 60


async def test_a_connection_that_is_gone_is_replaced_and_the_request_sent_once(
    client: Make, http_server: ScriptedServer
) -> None:
    made = client(type="json", url=http_server.url)
    await made.infer([])

    def drop(_: Exchange) -> None:
        http_server.drop_connections()

    http_server.answer = drop
    with pytest.raises(InferenceUnavailableError):
        await made.infer([])
    # Sent once over the old connection, and once more over a new one: no third time.
    assert len(http_server.requests) == 3
    with pytest.raises(InferenceUnavailableError):
        await made.infer([])
    assert len(http_server.requests) == 4


async def test_headers_of_the_settings_win(client: Make, http_server: ScriptedServer) -> None:
    made = client(
        type="openai_embeddings",
        url=http_server.url,
        model="m",
        api_key="key",
        headers={"authorization": "Other key", "X-Tenant": "t", "user-agent": "me"},
    )
    http_server.body = {"data": []}
    await made.infer([], idempotency_key="w/1")
    headers = http_server.requests[0].headers
    assert headers["authorization"] == "Other key"
    assert headers["x-tenant"] == "t"
    assert headers["user-agent"] == "me"
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "w/1"


async def test_credentials_of_the_url_are_sent_and_not_shown(
    client: Make, http_server: ScriptedServer
) -> None:
    url = http_server.url.replace("//", "//me:hunter2@") + "/infer?key=hunter2"
    http_server.answer = lambda exchange: exchange.reply(503, b"busy\n" * 1000)
    with pytest.raises(InferenceUnavailableError) as caught:
        await client(type="json", url=url).infer([])
    basic = b64encode(b"me:hunter2").decode()
    assert http_server.requests[0].headers["authorization"] == f"Basic {basic}"
    text = str(caught.value)
    assert text.startswith(f"POST {http_server.url}/infer: 503 Service Unavailable: busy busy")
    assert "hunter2" not in text
    assert len(text) < 300


async def test_a_redirect_is_not_followed(client: Make, http_server: ScriptedServer) -> None:
    def elsewhere(exchange: Exchange) -> None:
        exchange.reply(307, headers=(("location", "/other"),))

    http_server.answer = elsewhere
    with pytest.raises(InferenceMisconfiguredError, match="307"):
        await client(type="json", url=http_server.url).infer([])
    assert len(http_server.requests) == 1


async def test_a_compressed_answer_is_read(client: Make, http_server: ScriptedServer) -> None:
    made = client(type="json", url=http_server.url)
    body = gzip.compress(b"[1]")
    encoding = (("content-encoding", "gzip"),)
    http_server.answer = lambda exchange: exchange.reply(200, body, headers=encoding)
    assert await made.infer([]) == [1]
    http_server.answer = lambda exchange: exchange.reply(200, b"not gzip", headers=encoding)
    with pytest.raises(InvalidResponseError, match="content-encoding gzip"):
        await made.infer([])


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaNs", b"[" * 100_000])
async def test_a_body_that_is_no_json_is_an_invalid_response(
    client: Make, http_server: ScriptedServer, body: bytes
) -> None:
    http_server.answer = lambda exchange: exchange.reply(200, body)
    with pytest.raises(InvalidResponseError, match="200 OK: no JSON") as caught:
        await client(type="json", url=http_server.url).infer([])
    assert caught.value.status == 200


async def test_a_request_that_is_no_json_is_not_sent(
    client: Make, http_server: ScriptedServer
) -> None:
    with pytest.raises(InferenceRejectedError, match="cannot be written as JSON"):
        await client(type="json", url=http_server.url).infer({"x": object()})
    assert http_server.requests == []


async def test_an_answer_that_trickles_in_ends_at_the_deadline(client: Make) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b" ")
            await asyncio.wait([asyncio.ensure_future(reader.read(1000))], timeout=0.02)
        writer.close()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = client(type="json", url=f"http://127.0.0.1:{port}", timeout="200ms")
        with pytest.raises(InferenceUnavailableError, match="no answer within 200ms"):
            await made.infer([])
        await made.aclose()


async def test_an_answer_beyond_the_limit_is_an_invalid_response(
    client: Make, http_server: ScriptedServer
) -> None:
    made = client(type="json", url=http_server.url, max_response_bytes="1MiB")
    bomb = gzip.compress(b" " * 100_000_000)
    encoding = (("content-encoding", "gzip"),)
    http_server.answer = lambda exchange: exchange.reply(200, bomb, headers=encoding)
    with pytest.raises(InvalidResponseError, match=r"max_response_bytes \(1048576 bytes\)"):
        await made.infer([])
    http_server.answer = lambda exchange: exchange.reply(400, bomb, headers=encoding)
    with pytest.raises(InferenceRejectedError, match="400"):
        await made.infer([])
    http_server.answer = lambda exchange: exchange.reply(200, b"[1]")
    assert await made.infer([]) == [1]


async def test_an_answer_without_end_is_an_invalid_response(client: Make) -> None:
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
                await writer.drain()
        writer.close()
        ended.set()

    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        made = client(type="json", url=f"http://127.0.0.1:{port}", timeout="30s")
        with pytest.raises(InvalidResponseError, match="max_response_bytes"):
            await made.infer([])
        await made.aclose()
        await asyncio.wait_for(ended.wait(), 10)


async def test_cancelled_calls_leave_the_pool_usable(
    client: Make, http_server: ScriptedServer
) -> None:
    full = asyncio.Event()

    def hang(exchange: Exchange) -> None:
        if len(http_server.requests) == 2:
            full.set()

    made = client(type="json", url=http_server.url, max_concurrency=2)
    reply, http_server.answer = http_server.answer, hang
    calls = [asyncio.ensure_future(made.infer([])) for _ in range(4)]
    await asyncio.wait_for(full.wait(), 10)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    http_server.answer = reply
    assert await asyncio.gather(*(made.infer([]) for _ in range(4))) == [{}] * 4


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A TLS context of a server at 127.0.0.1, and the file of the authority that vouches for it."""
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, tmp_path / "ca.pem"


@pytest.mark.parametrize("trust", ["ca_file", "verify"])
async def test_a_private_authority_can_be_trusted_or_ignored(
    client: Make, authority: tuple[ssl.SSLContext, Path], trust: str
) -> None:
    context, ca_file = authority
    settings: dict[str, Any] = {"ca_file": ca_file} if trust == "ca_file" else {"verify": False}
    async with ScriptedServer().listening(context) as server:
        made = client(type="json", url=server.url, **settings)
        assert await made.infer([]) == {}
        await made.aclose()


async def test_a_certificate_that_nobody_vouches_for_is_misconfigured(
    client: Make, authority: tuple[ssl.SSLContext, Path]
) -> None:
    async with ScriptedServer().listening(authority[0]) as server:
        with pytest.raises(InferenceMisconfiguredError, match="CERTIFICATE_VERIFY_FAILED"):
            await client(type="json", url=server.url).infer([])


def test_an_authority_that_cannot_be_read_is_named(client: Make, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=f"ca_file: .*{name}"):
            client(type="json", url="https://m", ca_file=tmp_path / name)
